package compressed_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/internal/testenv"
)

func packed(t *testing.T, m compressed.Method, content []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := m.NewWriter(t.Context(), &out, level)
	if err != nil {
		t.Fatal(err)
	}
	for b := content; len(b) > 0; {
		n, err := w.Write(b[:min(len(b), 70_000)])
		if err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWriter(t *testing.T) {
	tools := map[compressed.Method]string{compressed.Gzip: "gzip", compressed.Zstd: "zstd"}
	for _, content := range [][]byte{nil, []byte("a"), disktest.Sample(1 << 20), disktest.Sample(3<<20 + 77)} {
		for m, tool := range tools {
			for _, level := range []int{0, 1, 9} {
				b := packed(t, m, content, level)
				if compressed.Detect(b) != m {
					t.Fatalf("%v: %d bytes become %x", m, len(content), b[:min(len(b), 12)])
				}
				if got, err := unpack(m, bytes.NewReader(b), int64(len(content))); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%v of %d bytes: %d come back, %v", m, len(content), len(got), err)
				}
				if n, ok, err := m.Size(t.Context(), disktest.NewMemFile(b)); err != nil || ok != (m == compressed.Zstd) || ok && n != int64(len(content)) {
					t.Errorf("%v of %d bytes: Size gives %d, %v, %v", m, len(content), n, ok, err)
				}
				cmd := exec.Command(testenv.NeedTool(t, tool), "-dc")
				cmd.Stdin = bytes.NewReader(b)
				if got, err := cmd.Output(); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s of %d bytes: %d come back, %v", tool, len(content), len(got), err)
				}
			}
		}
	}
}

func TestWriterIsDeterministic(t *testing.T) {
	content := disktest.Sample(3 << 20)
	many := packed(t, compressed.Gzip, content, 0)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if !bytes.Equal(packed(t, compressed.Gzip, content, 0), many) {
		t.Error("other bytes with one processor")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriterFails(t *testing.T) {
	if _, err := compressed.XZ.NewWriter(t.Context(), io.Discard, 0); !errors.Is(err, disk.ErrUnsupported) || compressed.XZ.CanWrite() {
		t.Errorf("xz: %v", err)
	}
	full := errors.New("full")
	w, err := compressed.Gzip.NewWriter(t.Context(), failing{full}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err = w.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	if closing := w.Close(); !errors.Is(err, full) || !errors.Is(closing, full) {
		t.Errorf("Write: %v, Close: %v", err, closing)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err = compressed.Zstd.NewWriter(ctx, io.Discard, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = w.Write(make([]byte, 1<<20))
	}
	if closing := w.Close(); !errors.Is(err, context.Canceled) || !errors.Is(closing, context.Canceled) {
		t.Errorf("cancelled: Write: %v, Close: %v", err, closing)
	}
}
