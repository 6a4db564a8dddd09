package replay

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader(t *testing.T) {
	for _, want := range []string{"", "some text"} {
		for _, n := range []int{0, 3, 100} {
			r := New(iotest.OneByteReader(strings.NewReader(want)))
			if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r.Again()); err != nil || string(got) != want {
				t.Errorf("after %d bytes: %q, %v", n, got, err)
			}
		}
	}
	r := New(strings.NewReader("some text"))
	if _, err := io.CopyN(io.Discard, r, 5); err != nil {
		t.Fatal(err)
	}
	r.Forget()
	if got, err := io.ReadAll(r); err != nil || string(got) != "text" || r.seen.Len() != 0 {
		t.Errorf("%q, %v, %d bytes remembered", got, err, r.seen.Len())
	}
}
