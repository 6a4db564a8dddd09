package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// contents are the files of a folder and what is in them, hidden ones included.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range names(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s=%s ", name, data)
	}
	return b.String()
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	before = "a=old b=old c=old stays=as it is "
	after  = "a=newer b=newer n=new stays=as it is "
)

// replacing is a set that replaces a and b, adds n and takes c away.
func replacing(t *testing.T, dir string, begin func(*testing.T, *Set, string) *File) *Set {
	t.Helper()
	write(t, dir, map[string]string{"a": "old", "b": "old", "c": "old", "stays": "as it is"})
	s := New(t.Context(), dir, Options{Replace: true})
	for _, f := range []struct{ name, text string }{{"a", "newer"}, {"b", "newer"}, {"n", "new"}} {
		if _, err := begin(t, s, f.name).Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove("c"); err != nil {
		t.Fatal(err)
	}
	return s
}

var errKilled = errors.New("killed")

// killedAt commits until a step is reached, and leaves everything as a program
// does that is killed then. steps are those that were reached.
func killedAt(t *testing.T, s *Set, step int) (steps []string) {
	t.Helper()
	s.reached = func(name string) {
		if steps = append(steps, name); len(steps) == step {
			panic(errKilled)
		}
	}
	defer func() {
		if r := recover(); r != nil && r != errKilled {
			panic(r)
		}
		for _, f := range s.files {
			f.File.Close() // as the system does
		}
	}()
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return steps
}

// TestKilledAtEveryStep kills a replacement at each of its steps: who comes after
// makes the old state of it, or the new one, and nothing is left over.
func TestKilledAtEveryStep(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir := t.TempDir()
		all := killedAt(t, replacing(t, dir, begin), -1)
		if got := contents(t, dir); got != after {
			t.Fatalf("not killed, it is %s", got)
		}
		if want := []string{"hidden", "recorded", "renamed n", "renamed b", "renamed a", "removed c", "named"}; !slices.Equal(all, want) {
			t.Fatalf("the steps are %q", all)
		}
		for step := 1; step <= len(all); step++ {
			dir := t.TempDir()
			killedAt(t, replacing(t, dir, begin), step)
			if got, recorded := Interrupted(dir), step > 1; got != recorded {
				t.Errorf("killed when %s, it is said to be interrupted: %v", all[step-1], got)
			}
			want := after
			if step == 1 {
				want = before
			}
			for range 2 { // the second finds nothing to do
				if _, err := Recover(dir); err != nil {
					t.Fatalf("killed when %s: %v", all[step-1], err)
				}
				if got := contents(t, dir); got != want {
					t.Errorf("killed when %s, it is %s", all[step-1], got)
				}
			}
			if Interrupted(dir) {
				t.Errorf("killed when %s, it is still interrupted", all[step-1])
			}
		}
	})
}

// TestRecoverLeavesOthersWorkAlone has somebody put back a file after a program
// was killed.
func TestRecoverLeavesOthersWorkAlone(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		for _, change := range []map[string]string{{"a": "mine!"}, {"n": "mine"}} {
			dir := t.TempDir()
			killedAt(t, replacing(t, dir, begin), 3) // n has its name, a has not
			write(t, dir, change)
			want := contents(t, dir)
			done, err := Recover(dir)
			if err != nil || done {
				t.Errorf("finished: %v, %v", done, err)
			}
			got := contents(t, dir)
			for name, text := range change {
				if !strings.Contains(got, name+"="+text) {
					t.Errorf("%s was changed: %s, and before %s", name, got, want)
				}
			}
			if strings.Contains(got, ".partial") || strings.Contains(got, recordPrefix) || !strings.Contains(got, "c=old") {
				t.Errorf("it is %s", got)
			}
		}
	})
}

// TestRecoverOfStrangers has records that nobody wrote who means well.
func TestRecoverOfStrangers(t *testing.T) {
	dir := t.TempDir()
	outside, inside := filepath.Join(dir, "outside"), filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"outside": "precious"})
	write(t, inside, map[string]string{"a": "a", ".a.AAAAAAAA.partial": "b"})
	for _, text := range []string{
		`{"replace":[{"temp":"../outside","name":"a"}]}`,
		`{"replace":[{"temp":".a.AAAAAAAA.partial","name":"../outside"}]}`,
		`{"replace":[{"temp":".../outside.AAAAAAAA.partial","name":"../outside"}]}`,
		`{"remove":["../outside"]}`,
		`{"remove":["` + outside + `"]}`,
		`{"replace":[{"temp":"a","name":"b"}]}`,
		`hello`,
	} {
		write(t, inside, map[string]string{recordPrefix + "X": text})
		if done, err := Recover(inside); done || err == nil {
			t.Errorf("%s: %v, %v", text, done, err)
		}
		if got := contents(t, inside); !strings.Contains(got, ".a.AAAAAAAA.partial=b") || !strings.Contains(got, " a=a ") {
			t.Errorf("%s: it is %s", text, got)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "precious" {
		t.Errorf("outside of the folder: %q, %v", b, err)
	}
}

// TestRecoverSparesTheLiving has a program that is at work in the same folder.
func TestRecoverSparesTheLiving(t *testing.T) {
	dir := t.TempDir()
	s := New(t.Context(), dir, Options{})
	if _, err := s.CreateFile("a"); err != nil {
		t.Fatal(err)
	}
	f := hide(t, s)
	if _, err := f.Write([]byte("still coming")); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, dir); got != "a=still coming " {
		t.Errorf("it is %s", got)
	}
}

// TestForget leaves a file out that was begun.
func TestForget(t *testing.T) {
	each(t, func(t *testing.T, begin func(*testing.T, *Set, string) *File) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "old"})
		s := New(t.Context(), dir, Options{Replace: true})
		f := begin(t, s, "a")
		if _, err := begin(t, s, "b").Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if err := s.Forget(f); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, dir); got != "a=old b=new " {
			t.Errorf("it is %s", got)
		}
	})
}
