package workdir

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// TestSweep removes what was left, and nothing that is held.
func TestSweep(t *testing.T) {
	base := t.TempDir()
	if removed, err := Sweep(base); err != nil || len(removed) > 0 {
		t.Errorf("%v, %v", removed, err)
	}
	held, _, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(held.Path()), "work-left")
	for range 2 {
		if err := os.Mkdir(left, 0o700); err != nil {
			t.Fatal(err)
		}
		if removed, err := Sweep(base); err != nil || !slices.Equal(removed, []string{left}) {
			t.Errorf("%v, %v", removed, err)
		}
		if _, err := os.Stat(held.Path()); err != nil {
			t.Error("a folder in use is gone:", err)
		}
	}
	// The last of all takes the folder of all along.
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	held.lock.Close() // as a program that was killed
	if removed, err := Sweep(base); err != nil || len(removed) != 2 {
		t.Errorf("%v, %v", removed, err)
	}
	if left, _ := os.ReadDir(base); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRemovesWhatWasLeft(t *testing.T) {
	base := t.TempDir()
	held, removed, err := New(base)
	if err != nil || len(removed) != 0 {
		t.Fatal(removed, err)
	}
	// One that is locked by nobody, as after a kill, and one that never got
	// its lock file.
	home := filepath.Dir(held.Path())
	for _, name := range []string{"work-left", "work-early"} {
		if err := os.MkdirAll(filepath.Join(home, name, "disks"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "work-left", lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second, removed, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(removed)
	if want := []string{filepath.Join(home, "work-early"), filepath.Join(home, "work-left")}; !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
	if _, err := os.Stat(held.Path()); err != nil {
		t.Error("a folder in use is gone:", err)
	}
	for _, d := range []*Dir{second, held, held} {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(base); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusesAnothersFolder(t *testing.T) {
	base := t.TempDir()
	d, _, err := New(base)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Dir(d.Path())
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), home); err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(base); err == nil {
		t.Error("followed a link")
	}
	os.Remove(home)
	if err := os.Mkdir(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(base); err == nil {
		t.Error("took a folder that others write to")
	}
}

func TestManyAtOnce(t *testing.T) {
	base := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				d, removed, err := New(base)
				if err != nil || len(removed) != 0 {
					t.Errorf("removed %q: %v", removed, err)
					return
				}
				if err := os.WriteFile(filepath.Join(d.Path(), "x"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(base); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
