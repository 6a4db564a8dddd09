package appliance_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
)

// received is what was handed on of an archive, and in which order.
type received struct {
	head  *appliance.Package
	order []string
	files map[string]string
}

// receive takes whole files in; refuse names one that is not taken when it is there,
// and why.
func receive(t *testing.T, r io.Reader, refuse map[string]error) (*received, *appliance.Report, error) {
	t.Helper()
	got := &received{files: map[string]string{}}
	_, report, err := appliance.Receive(t.Context(), r, appliance.ReceiveOptions{
		Head: func(_ context.Context, p *appliance.Package) error {
			if got.head != nil || len(got.order) > 0 {
				t.Error("the head comes again, or late")
			}
			got.head = p
			return nil
		},
		Whole: func(_ context.Context, f *appliance.WholeFile) error {
			got.order = append(got.order, fmt.Sprint(f.Ref.Href, " ", f.Size))
			data, err := io.ReadAll(f)
			got.files[f.Ref.Href] = string(data)
			return cmp.Or(err, refuse[f.Ref.Href])
		},
	})
	return got, report, err
}

// TestWhole has files handed on whole, in chunks or not, and the descriptor before.
func TestWhole(t *testing.T) {
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="a" ovf:href="./a"/><File ovf:id="b" ovf:href="b" ovf:chunkSize="3" ovf:size="7"/><File ovf:id="c" ovf:href="c" ovf:chunkSize="4"/>`)}
	files := []member{{"b.000000000", []byte("abc")}, {"b.000000001", []byte("def")}, {"b.000000002", []byte("g")}, {"other", []byte("nobody's")},
		{"a", []byte("all of a")}, {"c.000000000", []byte("1234")}, {"c.000000001", []byte("56")}}
	mf := manifestOf(append([]member{d}, files...)...)
	for name, c := range map[string]struct {
		all      []member
		manifest bool // is known at the head
	}{
		"manifest first": {append([]member{d, mf}, files...), true},
		"manifest last":  {append(append([]member{d}, files...), mf), false},
	} {
		got, report, err := receive(t, bytes.NewReader(archive(t, tar.FormatUSTAR, c.all...)), nil)
		if err != nil || report.Err() != nil {
			t.Fatalf("%s: %v, %v", name, err, report)
		}
		if got.head == nil || (got.head.Manifest() != nil) != c.manifest || !got.head.Coming() || got.head.Complete() {
			t.Errorf("%s: the head is %+v", name, got.head)
		}
		if order := strings.Join(got.order, ", "); order != "b 7, ./a 8, c -1" {
			t.Errorf("%s: %s", name, order)
		}
		if got.files["./a"] != "all of a" || got.files["b"] != "abcdefg" || got.files["c"] != "123456" {
			t.Errorf("%s: %q", name, got.files)
		}
	}
	// A package without a file is shown, too.
	alone := member{"a.ovf", fmt.Appendf(nil, descriptor, "")}
	if got, _, err := receive(t, bytes.NewReader(archive(t, tar.FormatUSTAR, alone, manifestOf(alone))), nil); err != nil || got.head == nil || got.head.Manifest() == nil {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestWholeEnds has archives that can't be used as they come, or that are no good:
// where the manifest is there, nothing behind the first such file is read.
func TestWholeEnds(t *testing.T) {
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="a" ovf:href="a"/><File ovf:id="b" ovf:href="b" ovf:chunkSize="3"/>`)}
	a, b0, b1 := member{"a", []byte("all of a")}, member{"b.000000000", []byte("abc")}, member{"b.000000001", []byte("d")}
	mf := manifestOf(d, a, b0, b1)
	bad := func(m member) member { return member{m.name, append([]byte("X"), m.data[1:]...)} }
	full := errors.New("no room")
	for name, c := range map[string]struct {
		all    []member
		refuse map[string]error
		want   error
		early  bool // the end of the archive does not matter
	}{
		"altered":                      {[]member{d, mf, bad(a), b0, b1}, nil, appliance.ErrAltered, true},
		"an altered chunk":             {[]member{d, mf, b0, bad(b1), a}, nil, appliance.ErrAltered, true},
		"the last chunk is altered":    {[]member{d, mf, a, b0, bad(b1)}, map[string]error{"b": disk.ErrCorrupt}, appliance.ErrAltered, false},
		"altered, the manifest last":   {[]member{d, bad(a), b0, b1, mf}, nil, appliance.ErrAltered, false},
		"damaged by what altered it":   {[]member{d, mf, bad(a), b0, b1}, map[string]error{"a": disk.ErrCorrupt}, appliance.ErrAltered, true},
		"damaged":                      {[]member{d, mf, a, b0, b1}, map[string]error{"a": disk.ErrCorrupt}, disk.ErrCorrupt, true},
		"nobody can take it":           {[]member{d, mf, bad(a), b0, b1}, map[string]error{"a": full}, full, true},
		"nobody can take the chunks":   {[]member{d, mf, b0, b1, a}, map[string]error{"b": full}, full, true},
		"nobody can take the last one": {[]member{d, mf, a, b0, b1}, map[string]error{"b": full}, full, false},
		"chunks in another order":      {[]member{d, mf, b1, b0, a}, nil, appliance.ErrInvalid, true},
		"a chunk far from the others":  {[]member{d, mf, b0, a, b1}, nil, appliance.ErrInvalid, true},
	} {
		data := archive(t, tar.FormatUSTAR, c.all...)
		read := func(r io.Reader) error {
			_, report, err := receive(t, r, c.refuse)
			if err == nil {
				err = report.Err()
			}
			return err
		}
		if err := read(bytes.NewReader(data)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		// What comes behind is never sent.
		stops := errors.New("it was read")
		if err := read(io.MultiReader(bytes.NewReader(data[:len(data)-1024-512]), failing{stops})); c.early == errors.Is(err, stops) {
			t.Errorf("%s, without an end: %v", name, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
