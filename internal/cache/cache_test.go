package cache

import (
	"errors"
	"sync"
	"testing"
)

func TestForgetsWhatWasNotUsedForLongest(t *testing.T) {
	c := New[int, int](2)
	made := 0
	get := func(k int) {
		t.Helper()
		v, err := c.Get(k, func() (int, error) { made++; return 10 * k, nil })
		if err != nil || v != 10*k {
			t.Errorf("Get(%d) = %d, %v", k, v, err)
		}
	}
	get(1)
	get(2)
	get(1)
	get(3) // 2 goes
	get(1)
	if made != 3 {
		t.Errorf("made %d values, want 3", made)
	}
	get(2)
	if made != 4 {
		t.Errorf("made %d values, want 4", made)
	}
}

func TestErrorsAreNotKept(t *testing.T) {
	c := New[string, int](1)
	if _, err := c.Get("a", func() (int, error) { return 0, errors.New("no") }); err == nil {
		t.Error("no error")
	}
	if v, err := c.Get("a", func() (int, error) { return 7, nil }); err != nil || v != 7 {
		t.Errorf("%d, %v", v, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := New[int, int](4)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				k := (g + i) % 10
				if v, _ := c.Get(k, func() (int, error) { return k, nil }); v != k {
					t.Errorf("Get(%d) = %d", k, v)
				}
			}
		})
	}
	wg.Wait()
}

func TestValuesAreCountedByTheirSize(t *testing.T) {
	c := NewSized[int](10, func(b []byte) int64 { return int64(len(b)) })
	made := 0
	get := func(k, size int) {
		t.Helper()
		v, err := c.Get(k, func() ([]byte, error) { made++; return make([]byte, size), nil })
		if err != nil || len(v) != size {
			t.Errorf("Get(%d) = %d bytes, %v", k, len(v), err)
		}
	}
	get(1, 4)
	get(2, 4)
	get(3, 4) // 1 goes
	get(2, 4)
	get(3, 4)
	if made != 3 {
		t.Errorf("made %d values, want 3", made)
	}
	get(4, 100) // all others go
	get(4, 100)
	get(2, 4)
	if made != 5 {
		t.Errorf("made %d values, want 5", made)
	}
}
