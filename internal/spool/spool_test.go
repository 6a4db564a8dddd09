package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/holes"
)

var _ disk.LocalFile = (*File)(nil)

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("content "), 100_000)
	clear(content[100_000:500_000])
	f, err := Copy(t.Context(), dir, iotest.HalfReader(bytes.NewReader(content)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n, hole := holes.Run(f, 200_000, 100_000); !hole {
		t.Logf("no hole (%d): not on this file system", n)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	empty(t, dir)
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCopyEndsInZeroes(t *testing.T) {
	f, err := Copy(t.Context(), t.TempDir(), bytes.NewReader(make([]byte, 3<<16+5)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()+1))
	if err != nil || !bytes.Equal(got, make([]byte, 3<<16+5)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestCopyFails(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []error{io.ErrUnexpectedEOF, errors.New("the network is gone")} {
		_, err := Copy(t.Context(), dir, io.MultiReader(bytes.NewReader([]byte("begin")), iotest.ErrReader(want)))
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Copy(ctx, dir, bytes.NewReader(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	empty(t, dir)
}
