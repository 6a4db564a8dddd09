package atomicfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
)

var (
	_ disk.Output     = (*Set)(nil)
	_ disk.OutputFile = (*File)(nil)
)

// names lists a folder, hidden files included.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// hide gives the newest file a hidden name, as on a file system without
// O_TMPFILE.
func hide(t *testing.T, s *Set) *File {
	t.Helper()
	i := len(s.files) - 1
	f := s.files[i]
	f.Close()
	h, err := createHidden(s.dir, f.path)
	if err != nil {
		t.Fatal(err)
	}
	h.ctx = f.ctx
	s.files[i] = h
	return h
}

func each(t *testing.T, run func(t *testing.T, begin func(*testing.T, *Set, string) *File)) {
	t.Run("unnamed", func(t *testing.T) {
		run(t, func(t *testing.T, s *Set, name string) *File {
			t.Helper()
			f, err := s.CreateFile(name)
			if err != nil {
				t.Fatal(err)
			}
			return f
		})
	})
	t.Run("hidden", func(t *testing.T) {
		run(t, func(t *testing.T, s *Set, name string) *File {
			t.Helper()
			if _, err := s.CreateFile(name); err != nil {
				t.Fatal(err)
			}
			return hide(t, s)
		})
	})
}

func TestCommit(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir, ctx := t.TempDir(), t.Context()
		s := New(ctx, dir, Options{})
		f := begin(t, s, "disk.raw")
		if _, err := f.WriteAt([]byte("content"), 3); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "disk.raw")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the file is there before Commit: %v", err)
		}
		if err := s.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Abort(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "disk.raw"))
		if err != nil || string(got) != "\x00\x00\x00content" {
			t.Fatalf("%q, %v", got, err)
		}
		if n := names(t, dir); len(n) != 1 {
			t.Errorf("left behind: %q", n)
		}
	})
}

func TestAbort(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir, ctx := t.TempDir(), t.Context()
		s := New(ctx, dir, Options{})
		begin(t, s, "disk.raw")
		if err := s.Abort(); err != nil {
			t.Fatal(err)
		}
		if n := names(t, dir); len(n) != 0 {
			t.Errorf("left behind: %q", n)
		}
		if err := s.Commit(ctx); err == nil {
			t.Error("Commit after Abort goes well")
		}
	})
}

func TestExisting(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir, ctx := t.TempDir(), t.Context()
		path := filepath.Join(dir, "disk.raw")
		late := New(ctx, dir, Options{})
		begin(t, late, "disk.raw")
		if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := late.Commit(ctx); !errors.Is(err, fs.ErrExist) {
			t.Errorf("the name was taken meanwhile: %v", err)
		}
		if _, err := New(ctx, dir, Options{}).Create("disk.raw"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("the name was taken before: %v", err)
		}
		if got, _ := os.ReadFile(path); string(got) != "old" {
			t.Fatalf("the old file is %q", got)
		}
		s := New(ctx, dir, Options{Replace: true})
		f := begin(t, s, "disk.raw")
		if _, err := f.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "new" {
			t.Errorf("the new file is %q", got)
		}
		if n := names(t, dir); len(n) != 1 {
			t.Errorf("left behind: %q", n)
		}
	})
}

func TestSeveralFilesAppearTogether(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir, ctx := t.TempDir(), t.Context()
		s := New(ctx, dir, Options{})
		begin(t, s, "disk.vmdk")
		begin(t, s, "disk-s001.vmdk")
		// The one that would appear last cannot.
		if err := os.WriteFile(filepath.Join(dir, "disk.vmdk"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx); !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if n := names(t, dir); len(n) != 1 {
			t.Errorf("in the folder: %q", n)
		}
	})
}

func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		s := New(ctx, dir, Options{})
		f := begin(t, s, "disk.raw")
		cancel()
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("WriteAt: %v", err)
		}
		if err := s.Commit(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("Commit: %v", err)
		}
		if n := names(t, dir); len(n) != 0 {
			t.Errorf("left behind: %q", n)
		}
	})
}

func TestNames(t *testing.T) {
	s := New(t.Context(), t.TempDir(), Options{})
	for _, name := range []string{"", ".", "..", "a/b", "../a", "/a"} {
		if _, err := s.Create(name); err == nil {
			t.Errorf("%q is taken for a base name", name)
		}
	}
	if _, err := s.Create("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same name twice: %v", err)
	}
	if err := s.Abort(); err != nil {
		t.Fatal(err)
	}
}

// Several megabytes in a row set off the writing to the disk; closing the file
// meanwhile must do no harm.
func TestEarlyWriteback(t *testing.T) {
	for range 3 {
		s := New(t.Context(), t.TempDir(), Options{})
		f, err := s.CreateFile("disk.raw")
		if err != nil {
			t.Fatal(err)
		}
		block := make([]byte, 1<<20)
		for i := range int64(40) {
			if _, err := f.WriteAt(block, i<<20); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Abort(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplaceFilesOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), dir, Options{Replace: true}).Create("folder"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
}
