package httprange

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/faultserver"
)

// served is a file on a server that has bad days.
func served(t *testing.T, b []byte) *faultserver.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), b, 0o666); err != nil {
		t.Fatal(err)
	}
	return faultserver.New(t, dir)
}

func TestBadNetwork(t *testing.T) {
	b := content(3<<20 + 5)
	for _, c := range []struct {
		name  string
		fault faultserver.Faults
		err   error // nil: all is read, and right
	}{
		{name: "drops", fault: faultserver.Faults{Drop: 200 << 10}},
		{name: "another file", fault: faultserver.Faults{Version: "2"}, err: ErrChanged},
		{name: "ranges no more", fault: faultserver.Faults{NoRanges: true}, err: ErrNoRanges},
		{name: "wrong range", fault: faultserver.Faults{Shift: 7}, err: ErrWrongRange},
		{name: "gone", fault: faultserver.Faults{Status: http.StatusNotFound}, err: &StatusError{}},
		{name: "overloaded", fault: faultserver.Faults{Status: http.StatusServiceUnavailable}, err: &StatusError{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := served(t, b)
			f, err := open(t, s.URL("x"))
			if err != nil {
				t.Fatal(err)
			}
			s.Change(func(f *faultserver.Faults) { *f = c.fault })
			for name, read := range map[string]func([]byte) error{
				"random access": func(p []byte) error { _, err := f.ReadAt(p, 1); return err },
				"fetch":         func(p []byte) error { return f.Fetch(t.Context(), p, 1) },
				"front to back": func(p []byte) error {
					r := f.Reader(t.Context(), 1, int64(len(p)))
					defer r.Close()
					_, err := io.ReadFull(r, p)
					return err
				},
			} {
				p := make([]byte, len(b)-1)
				err := read(p)
				var status *StatusError
				switch {
				case c.err == nil && (err != nil || !bytes.Equal(p, b[1:])):
					t.Errorf("%s: %v, or other bytes", name, err)
				case c.err != nil && !errors.Is(err, c.err) && !(errors.As(c.err, &status) && errors.As(err, &status)):
					t.Errorf("%s: %v, want %v", name, err, c.err)
				}
			}
		})
	}
}

// A server that is killed and comes back is waited for, and what was read
// before is not asked for again.
func TestServerThatComesBack(t *testing.T) {
	b := content(8 << 20)
	s := served(t, b)
	f, err := Open(t.Context(), http.DefaultClient, s.URL("x"), Options{Retries: 12, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r := f.Reader(t.Context(), 0, f.Size())
	defer r.Close()
	got := make([]byte, 3<<20)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(50 * time.Millisecond)
		if err := s.Restart(); err != nil {
			t.Error(err)
		}
	})
	rest, err := io.ReadAll(r)
	wg.Wait()
	if got = append(got, rest...); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes of %d, %v", len(got), len(b), err)
	}
}

// A server from which the beginning never comes whole is no worse than others.
func TestOpenWhereConnectionsBreak(t *testing.T) {
	b := content(200 << 10)
	s := served(t, b)
	s.Change(func(f *faultserver.Faults) { f.Drop = 30 << 10 })
	f, err := Open(t.Context(), http.DefaultClient, s.URL("x"), Options{Retries: 30, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%v, or other bytes", err)
	}
}

func TestNoPatience(t *testing.T) {
	s := served(t, content(1<<20))
	f, err := Open(t.Context(), http.DefaultClient, s.URL("x"), Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	s.Change(func(f *faultserver.Faults) { f.Status = http.StatusBadGateway })
	before := s.Requests.Load()
	if _, err := f.ReadAt(make([]byte, 1), 512<<10); err == nil {
		t.Error("no error")
	}
	if n := s.Requests.Load() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
	// Where nobody ever answered, nobody is waited for.
	s.Kill()
	start := time.Now()
	if _, err := Open(t.Context(), http.DefaultClient, s.URL("x"), Options{Retries: 20, Backoff: time.Hour}); err == nil || time.Since(start) > time.Minute {
		t.Errorf("opened where nobody is: %v", err)
	}
}

// Whoever waits is told, once, and not of what passes by itself.
func TestTrouble(t *testing.T) {
	s := served(t, content(1<<20))
	told := make(chan error, 10)
	opt := Options{Retries: 5, Backoff: time.Millisecond, Trouble: func(err error) { told <- err }}
	f, err := Open(t.Context(), http.DefaultClient, s.URL("x"), opt)
	if err != nil {
		t.Fatal(err)
	}
	s.Change(func(f *faultserver.Faults) { f.Drop = 200 << 10 })
	if err := f.Fetch(t.Context(), make([]byte, 1<<20), 0); err != nil || len(told) > 0 {
		t.Errorf("%v, told %d times", err, len(told))
	}
	s.Change(func(f *faultserver.Faults) { *f = faultserver.Faults{Status: http.StatusBadGateway} })
	err = f.Fetch(t.Context(), make([]byte, 1), 0)
	if err == nil || len(told) != 1 {
		t.Fatalf("%v, told %d times", err, len(told))
	}
	if first := <-told; !strings.Contains(first.Error(), "502") {
		t.Errorf("told %v", first)
	}
}

func TestServerThatHangs(t *testing.T) {
	s := served(t, content(1<<20))
	f, err := Open(t.Context(), http.DefaultClient, s.URL("x"), Options{Retries: 1, Backoff: time.Millisecond, Stall: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.Change(func(f *faultserver.Faults) { f.Hang = true })
	_, err = f.ReadAt(make([]byte, 1), 512<<10)
	if err == nil || !strings.Contains(err.Error(), "sent nothing for") || !strings.Contains(err.Error(), "tried 2 times") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := f.Fetch(ctx, make([]byte, 1), 600<<10); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestStream(t *testing.T) {
	b := content(1 << 20)
	s := served(t, b)
	s.Change(func(f *faultserver.Faults) { f.NoRanges = true })
	if _, err := open(t, s.URL("x")); !errors.Is(err, ErrNoRanges) {
		t.Fatal(err)
	}
	read := func() ([]byte, error) {
		r, size, err := Stream(t.Context(), http.DefaultClient, s.URL("x"), quick)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if size != int64(len(b)) {
			t.Errorf("size %d", size)
		}
		return io.ReadAll(r)
	}
	if got, err := read(); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s.Change(func(f *faultserver.Faults) { f.Drop = 1 << 19 })
	if got, err := read(); err == nil || !bytes.HasPrefix(b, got) || !strings.Contains(err.Error(), "cannot be taken up again") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What a server sends encoded is not taken for the file's bytes.
func TestEncoded(t *testing.T) {
	for header, value := range map[string]string{"Content-Encoding": "gzip", "Content-Type": "multipart/byteranges; boundary=x"} {
		url, _ := server(t, content(100), func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(header, value)
				h.ServeHTTP(w, r)
			})
		})
		if _, err := open(t, url); !errors.Is(err, ErrWrongRange) {
			t.Errorf("%s: %v", header, err)
		}
	}
}
