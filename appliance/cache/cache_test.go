package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const block = 4096

func a(name string, size int64) File {
	return File{Content: []string{"manifest", name}, Source: []string{"here"}, Name: name, Locator: "https://example.org/a.ova", Size: size, Block: block}
}

func entry(t testing.TB, c *Cache, f File) *Entry {
	t.Helper()
	e, err := c.Entry(f)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t testing.TB, e *Entry, n int64) {
	t.Helper()
	b := bytes.Repeat([]byte{byte(n + 1)}, int(min(block, e.Size()-n*block)))
	if _, err := e.WriteAt(b, n*block); err != nil {
		t.Fatal(err)
	}
	e.Add(n)
}

func closed(t testing.TB, e *Entry) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEntriesAreKept(t *testing.T) {
	c := Open(t.TempDir())
	f := a("disk.vmdk", 100*block+10)
	e := entry(t, c, f)
	for _, n := range []int64{0, 7, 64, 100} {
		put(t, e, n)
	}
	if got := e.Present(); got != 3*block+10 {
		t.Errorf("%d bytes are here", got)
	}
	if _, err := c.Entry(f); !errors.Is(err, ErrBusy) {
		t.Errorf("a second user of an entry that is not whole: %v", err)
	}
	closed(t, e)
	e = entry(t, c, f)
	b := make([]byte, 1)
	for n := range int64(101) {
		want := n == 0 || n == 7 || n == 64 || n == 100
		if e.Has(n) != want {
			t.Errorf("block %d: %v", n, !want)
		}
		if _, err := e.ReadAt(b, n*block); want && (err != nil || b[0] != byte(n+1)) {
			t.Errorf("block %d holds %d, %v", n, b[0], err)
		}
	}
	if err := e.SetVerified(); err == nil {
		t.Error("verified though not whole")
	}
	closed(t, e)

	// From another source nothing is taken that was not verified.
	g := f
	g.Source = []string{"there"}
	if e = entry(t, c, g); e.Present() != 0 {
		t.Errorf("%d unproved bytes of another source", e.Present())
	}
	for n := range int64(101) {
		put(t, e, n)
	}
	if err := e.SetVerified(); err != nil {
		t.Fatal(err)
	}
	closed(t, e)
	// Verified, it is for all, at once.
	one, two := entry(t, c, f), entry(t, c, g)
	for _, e := range []*Entry{one, two} {
		if !e.Verified() || e.Present() != f.Size {
			t.Error("it is not whole")
		}
		defer closed(t, e)
	}
	// Another file is another entry.
	other := entry(t, c, a("other.vmdk", f.Size))
	defer closed(t, other)
	if other.Present() != 0 {
		t.Error("two files are one entry")
	}
}

// What is damaged is begun anew.
func TestDamage(t *testing.T) {
	f := a("disk", 70*block)
	for name, damage := range map[string]func(t *testing.T, dir string) error{
		"head": func(t *testing.T, dir string) error {
			l, err := os.OpenFile(filepath.Join(dir, blocksName), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer l.Close()
			_, err = l.WriteAt([]byte{1}, 56) // "verified"
			return err
		},
		"short list":  func(t *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, blocksName), listHead+8) },
		"empty list":  func(t *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, blocksName), 0) },
		"no list":     func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, blocksName)) },
		"short data":  func(t *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, dataName), 69*block) },
		"no data":     func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, dataName)) },
		"past end":    func(t *testing.T, dir string) error { return patch(dir, listHead+15, 0x80) },
		"other block": func(t *testing.T, dir string) error { f.Block = 2 * block; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f.Block = block
			c := Open(t.TempDir())
			e := entry(t, c, f)
			put(t, e, 3)
			dir := e.dir
			closed(t, e)
			if err := damage(t, dir); err != nil {
				t.Fatal(err)
			}
			e = entry(t, c, f)
			defer closed(t, e)
			if e.Present() != 0 || e.Verified() {
				t.Errorf("%d bytes are here", e.Present())
			}
			f.Block = block
		})
	}
}

func patch(dir string, at int64, b byte) error {
	l, err := os.OpenFile(filepath.Join(dir, blocksName), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = l.WriteAt([]byte{b}, at)
	return err
}

// A program that is killed at any point leaves a list that names no block that
// was not stored before: what Flush listed is there, what it did not is not.
func TestKilled(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		c, f := Open(dir), a("disk", 200*block)
		e := entry(t, c, f)
		listed, all := map[int64]bool{}, map[int64]bool{}
		for range rapid.IntRange(1, 20).Draw(r, "steps") {
			if rapid.IntRange(0, 4).Draw(r, "flush") == 0 {
				if err := e.Flush(); err != nil {
					r.Fatal(err)
				}
				for n := range all {
					listed[n] = true
				}
				continue
			}
			n := rapid.Int64Range(0, 199).Draw(r, "block")
			put(t, e, n)
			all[n] = true
		}
		// Killed: nothing is closed as it should be.
		e.data.Close()
		e.list.Close()
		e.lock.Close()
		e = entry(t, c, f)
		defer closed(t, e)
		b := make([]byte, block)
		for n := range int64(200) {
			if e.Has(n) != listed[n] {
				r.Fatalf("block %d: listed %v", n, e.Has(n))
			}
			if _, err := e.ReadAt(b, n*block); e.Has(n) && (err != nil || b[7] != byte(n+1)) {
				r.Fatalf("block %d holds other bytes", n)
			}
		}
	})
}

func TestTemporaryAndDrop(t *testing.T) {
	dir := t.TempDir()
	e, err := Temporary(dir, a("x", 3*block))
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(3) {
		put(t, e, n)
	}
	if err := e.SetVerified(); err != nil || !e.Verified() || e.Kept() {
		t.Error(err)
	}
	closed(t, e)
	c := Open(dir)
	e = entry(t, c, a("x", 3*block))
	put(t, e, 1)
	if !e.Kept() {
		t.Error("not kept")
	}
	if err := e.Drop(); err != nil {
		t.Fatal(err)
	}
	if all, err := c.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if e = entry(t, c, a("x", 3*block)); e.Present() != 0 {
		t.Error("what was dropped is back")
	}
	closed(t, e)
}

func TestListAndPrune(t *testing.T) {
	c := Open(t.TempDir())
	if all, err := c.List(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	now := time.Now()
	for i, name := range []string{"old", "middle", "new", "held"} {
		e := entry(t, c, a(name, 10*block))
		for n := range int64(i + 1) {
			put(t, e, n)
		}
		if name == "held" {
			defer closed(t, e)
		} else {
			closed(t, e)
		}
		when := now.Add(-time.Duration(10-i) * time.Hour)
		if err := os.Chtimes(filepath.Join(e.dir, lockName), when, when); err != nil {
			t.Fatal(err)
		}
	}
	// What is not an entry is left alone.
	if err := os.Mkdir(filepath.Join(c.dir, "something else"), 0o700); err != nil {
		t.Fatal(err)
	}
	names := func(all []Info) (s string) {
		for _, i := range all {
			s += i.Name + " "
		}
		return s
	}
	all, err := c.List(t.Context())
	if err != nil || names(all) != "held new middle old " || !all[0].InUse || all[1].InUse || all[1].Present != 3*block || all[1].Size != 10*block || all[1].Locator == "" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, p := range []struct {
		opt  PruneOptions
		want string
	}{
		{PruneOptions{Keep: -1}, ""},
		{PruneOptions{Keep: -1, Unused: 9*time.Hour + time.Minute, DryRun: true}, "old "},
		{PruneOptions{Keep: 3 * block, DryRun: true}, "middle old "},
		{PruneOptions{Keep: 4 * block, DryRun: true}, "middle "},
		{PruneOptions{Keep: -1, Unused: 9*time.Hour + time.Minute}, "old "},
		{PruneOptions{Keep: 0}, "new middle "},
	} {
		got, err := c.Prune(t.Context(), p.opt)
		if err != nil || names(got) != p.want {
			t.Errorf("%+v removes %q, want %q (%v)", p.opt, names(got), p.want, err)
		}
	}
	if all, err := c.List(t.Context()); err != nil || names(all) != "held " {
		t.Errorf("left: %v, %v", all, err)
	}
}

func FuzzList(f *testing.F) {
	dir := f.TempDir()
	e := entry(f, Open(dir), a("x", 100*block))
	put(f, e, 99)
	path := e.list.Name()
	closed(f, e)
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:listHead])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "l")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := readList(path); err == nil && (l.present() > l.size || int64(len(l.words))*8 > int64(len(b))) {
			t.Fatalf("%d of %d bytes, in %d words", l.present(), l.size, len(l.words))
		}
	})
}
