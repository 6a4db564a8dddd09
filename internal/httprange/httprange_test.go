package httprange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// server serves one file; change alters how.
func server(t *testing.T, b []byte, change func(http.Handler) http.Handler) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "x", time.Unix(1, 0), bytes.NewReader(b))
	})
	if change != nil {
		h = change(h)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// quick does not wait long.
var quick = Options{Retries: 5, Backoff: time.Millisecond}

func open(t *testing.T, url string) (*File, error) {
	t.Helper()
	return Open(context.Background(), http.DefaultClient, url, quick)
}

func TestRandomAndConcurrentReads(t *testing.T) {
	b := content(3<<20 + 17)
	url, _ := server(t, b, nil)
	f, err := open(t, url)
	if err != nil {
		t.Fatal(err)
	}
	if f.Size() != int64(len(b)) {
		t.Fatalf("size %d", f.Size())
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for range 50 {
				off := r.IntN(len(b))
				p := make([]byte, r.IntN(200<<10))
				n, err := f.ReadAt(p, int64(off))
				want := b[off:min(len(b), off+len(p))]
				if !bytes.Equal(p[:n], want) || n < len(p) && err != io.EOF {
					t.Errorf("ReadAt(%d, %d) = %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestFewRequestsForReadingOn(t *testing.T) {
	b := content(32 << 20)
	url, requests := server(t, b, nil)
	f, err := open(t, url)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	if n := requests.Load(); n > 20 {
		t.Errorf("%d requests for 32 MiB", n)
	}
}

func TestConnectionsThatBreak(t *testing.T) {
	b := content(2 << 20)
	var n atomic.Int64
	url, _ := server(t, b, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				h.ServeHTTP(w, r)
				return
			}
			h.ServeHTTP(&cut{ResponseWriter: w, left: 300 << 10}, r)
		})
	})
	f, err := open(t, url)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Errorf("random access: %v", err)
	}
	r := f.Reader(context.Background(), 5, f.Size()-5)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b[5:]) {
		t.Errorf("front to back: %d bytes, %v", len(got), err)
	}
}

// cut breaks the connection after some bytes.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestServersThatDoNotDoWhatTheyShould(t *testing.T) {
	b := content(1 << 20)
	var after atomic.Bool
	for _, c := range []struct {
		name   string
		change func(http.Handler) http.Handler
		open   error // of Open
		read   error // of a read later
	}{
		{name: "no ranges", open: ErrNoRanges, change: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Range"); h.ServeHTTP(w, r) })
		}},
		{name: "another version", read: ErrChanged, change: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if after.Load() {
					w.Header().Set("Etag", `"v2"`)
					http.ServeContent(w, r, "x", time.Unix(2, 0), bytes.NewReader(b))
					return
				}
				h.ServeHTTP(w, r)
			})
		}},
		{name: "another size", read: ErrChanged, change: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if after.Load() {
					w.Header().Set("Etag", `"v1"`)
					http.ServeContent(w, r, "x", time.Unix(1, 0), bytes.NewReader(b[:1<<19]))
					return
				}
				h.ServeHTTP(w, r)
			})
		}},
		{name: "ranges no more", read: ErrNoRanges, change: func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if after.Load() {
					r.Header.Del("Range")
				}
				h.ServeHTTP(w, r)
			})
		}},
	} {
		after.Store(false)
		url, _ := server(t, b, c.change)
		f, err := open(t, url)
		if !errors.Is(err, c.open) {
			t.Errorf("%s: Open: %v, want %v", c.name, err, c.open)
		}
		if err != nil {
			continue
		}
		after.Store(true)
		if _, err := f.ReadAt(make([]byte, 10), 700<<10); !errors.Is(err, c.read) {
			t.Errorf("%s: ReadAt: %v, want %v", c.name, err, c.read)
		}
		if _, err := io.ReadAll(f.Reader(context.Background(), 1, 100)); !errors.Is(err, c.read) {
			t.Errorf("%s: Reader: %v, want %v", c.name, err, c.read)
		}
	}
	url, _ := server(t, b, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 100-199/1000")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, strings.Repeat("x", 100))
		})
	})
	if _, err := open(t, url); err == nil || !errors.Is(err, ErrWrongRange) || !strings.Contains(err.Error(), `answers with the range "bytes 100-199/1000"`) {
		t.Errorf("a wrong range: %v", err)
	}
}

func TestErrorsTellNoSecrets(t *testing.T) {
	url, _ := server(t, nil, func(http.Handler) http.Handler { return http.NotFoundHandler() })
	secret := strings.Replace(url, "http://", "http://user:hunter2@", 1) + "/x?signature=hunter2"
	_, err := open(t, secret)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 404 {
		t.Errorf("error %v", err)
	}
	_, down := open(t, "http://user:hunter2@127.0.0.1:1/x?hunter2")
	for _, err := range []error{err, down} {
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is told: %v", err)
		}
	}
}

func TestCancelled(t *testing.T) {
	b := content(1 << 20)
	url, _ := server(t, b, nil)
	ctx, cancel := context.WithCancel(context.Background())
	f, err := Open(ctx, http.DefaultClient, url, quick)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := f.ReadAt(make([]byte, 10), 500<<10); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt: %v", err)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-99/1000")
	f.Add("bytes */0")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, size, err := contentRange(s)
		if err == nil && (size < 0 || first < 0 || last < first || last >= size && !strings.Contains(s, "*")) {
			t.Fatalf("%q: %d-%d/%d", s, first, last, size)
		}
	})
}
