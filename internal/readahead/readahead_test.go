package readahead

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func TestReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "data")
		var src io.Reader = bytes.NewReader(data)
		switch rapid.IntRange(0, 3).Draw(t, "reader") {
		case 0:
			src = iotest.OneByteReader(src)
		case 1:
			src = iotest.DataErrReader(src)
		case 2:
			src = iotest.HalfReader(src)
		}
		r := New(context.Background(), src, rapid.IntRange(1, 4).Draw(t, "blocks"), rapid.IntRange(1, 300).Draw(t, "size"))
		defer r.Close()
		got, err := io.ReadAll(iotest.HalfReader(r))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes of %d: %v", len(got), len(data), err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("after the end: %d, %v", n, err)
		}
	})
}

func TestErrorComesAfterTheData(t *testing.T) {
	bad := errors.New("bad")
	r := New(t.Context(), io.MultiReader(bytes.NewReader(make([]byte, 100)), iotest.ErrReader(bad)), 2, 64)
	defer r.Close()
	if got, err := io.ReadAll(r); len(got) != 100 || err != bad {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// endless never ends and never waits.
type endless struct{ reads int }

func (e *endless) Read(b []byte) (int, error) { e.reads++; return len(b), nil }

func TestCloseEndsReading(t *testing.T) {
	src := &endless{}
	r := New(context.Background(), src, 3, 64)
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// Nothing reads any more: the race detector would see it.
	src.reads = 0
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	defer out.Close()
	r := New(ctx, in, 2, 64)
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := r.Read(make([]byte, 1)); err != context.Canceled {
		t.Error(err)
	}
}
