package history

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func line(n int) Line {
	return Line{Deployment: fmt.Sprint("id", n), Name: "web", Target: "memory:", Act: Act{Time: noon, What: Deployed, By: "alice@desk", Machines: []string{"web"}, Text: "why"}}
}

func TestLog(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "a", "history")}
	if all, err := l.List(); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	want := []Line{line(1), line(2)}
	for _, x := range want {
		if err := l.Add(x); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.List()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(l.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestTorn cuts the file anywhere: what is whole is read, and what is added
// after it.
func TestTorn(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "history")}
	for n := range 3 {
		if err := l.Add(line(n)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(l.Path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := l.List()
		if err != nil || len(before) < bytes.Count(whole[:n], []byte("\n")) {
			t.Fatalf("cut at %d: %d lines, %v", n, len(before), err)
		}
		if err := l.Add(line(9)); err != nil {
			t.Fatal(err)
		}
		if all, err := l.List(); err != nil || len(all) != len(before)+1 || all[len(all)-1].Deployment != "id9" {
			t.Fatalf("cut at %d: %d lines, %v", n, len(all), err)
		}
	}
}

// TestBounded adds more than the file takes, by several at once.
func TestBounded(t *testing.T) {
	l := Log{filepath.Join(t.TempDir(), "history")}
	long := line(0)
	long.Text = strings.Repeat("y", 512<<10)
	var wg sync.WaitGroup
	for by := range 4 {
		wg.Go(func() {
			for n := range 6 {
				x := long
				x.Deployment = fmt.Sprint(by, " ", n)
				if err := l.Add(x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(l.Path)
	if err != nil || info.Size() > mostBytes+1<<20 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	all, err := l.List()
	if err != nil || len(all) < 3 {
		t.Fatalf("%d lines, %v", len(all), err)
	}
	last := map[string]bool{}
	for _, x := range all {
		last[x.Deployment] = true
	}
	some := false
	for by := range 4 {
		some = some || last[fmt.Sprint(by, " 5")]
	}
	if !some {
		t.Errorf("the newest are not there: %v", last)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(l.Path), "*")); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
