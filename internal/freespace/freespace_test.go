package freespace

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	free, err := Of(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not on this system")
	}
	if err != nil || free <= 0 {
		t.Fatal(free, err)
	}
	if err := Check(dir, 1); err != nil {
		t.Error(err)
	}
	err = Check(dir, math.MaxInt64)
	if !errors.Is(err, ErrTooLittle) || !strings.Contains(err.Error(), dir) || strings.Count(err.Error(), "iB") != 2 {
		t.Error(err)
	}
	if err := Check(dir+"/nowhere", math.MaxInt64); err != nil {
		t.Errorf("where nothing is known: %v", err)
	}
}
