package appliance_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
)

// found is what was found of an archive, however it was read.
type found struct {
	err error // that nothing could be found
	*appliance.Report
}

// both verifies an archive that lies still, and one that arrives.
func both(t testing.TB, data []byte) (still, arriving found) {
	t.Helper()
	ctx := context.Background()
	if p, err := appliance.Open(ctx, file(t, "a.ova", data), appliance.Options{}); err != nil {
		still.err = err
	} else {
		defer p.Close()
		still.Report, still.err = p.Verify(ctx, appliance.VerifyOptions{})
	}
	arriving.Report, arriving.err = appliance.VerifyStream(ctx, io.MultiReader(bytes.NewReader(data)), appliance.VerifyOptions{})
	return still, arriving
}

// difference says in what two reports differ, "" for nothing.
func difference(a, b found) string {
	switch {
	case (a.err == nil) != (b.err == nil):
		return fmt.Sprintf("error %v; error %v", a.err, b.err)
	case a.err != nil:
		return ""
	case a.Manifest != b.Manifest || a.Certificate != b.Certificate || !bytes.Equal(a.ManifestData, b.ManifestData) || !bytes.Equal(a.CertificateData, b.CertificateData):
		return fmt.Sprintf("manifests %q and %q, certificates %q and %q", a.Manifest, b.Manifest, a.Certificate, b.Certificate)
	}
	lines := func(r found) string {
		var all []string
		for _, f := range r.Files {
			all = append(all, fmt.Sprintf("%s %s %d %s", f.Name, f.State, f.Size, f.Digest))
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	if x, y := lines(a), lines(b); x != y {
		return x + "\n\n" + y
	}
	if x, y := a.Err(), b.Err(); errors.Is(x, appliance.ErrAltered) != errors.Is(y, appliance.ErrAltered) || (x == nil) != (y == nil) {
		return fmt.Sprintf("error %v; error %v", x, y)
	}
	return ""
}

// TestAnArchiveIsTheSameHoweverItIsRead has archives that could be taken for
// something else by whoever reads them in another way: what is proved of one is
// to be proved of the other.
func TestAnArchiveIsTheSameHoweverItIsRead(t *testing.T) {
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="f" ovf:href="disk"/>`)}
	theDisk := member{"disk", []byte("what the disk holds")}
	good, empty := manifestOf(d, theDisk), member{"z.mf", []byte("\n")}
	other := member{"z.mf", []byte("SHA1(theDisk)= 0000000000000000000000000000000000000000\n")}
	upper := member{"A.MF", good.data}
	certificate, another := member{"a.cert", []byte("one")}, member{"z.cert", []byte("another")}
	for name, c := range map[string]struct {
		files []member
		err   string // of both, "" for a report
	}{
		"the usual":                    {[]member{d, good, certificate, theDisk}, ""},
		"the manifest last":            {[]member{d, theDisk, good}, ""},
		"another manifest after it":    {[]member{d, good, theDisk, other}, ""},
		"another manifest before it":   {[]member{d, other, good, theDisk}, ""},
		"an empty one before it":       {[]member{d, empty, good, theDisk}, ""},
		"a manifest of another name":   {[]member{d, other, theDisk}, ""},
		"in capitals":                  {[]member{d, upper, theDisk}, ""},
		"two of other names":           {[]member{d, other, member{"y.mf", good.data}, theDisk}, "several files .mf"},
		"another certificate":          {[]member{d, good, another, certificate, theDisk}, ""},
		"a certificate of other names": {[]member{d, good, another, theDisk}, ""},
		"two certificates of others":   {[]member{d, good, another, member{"y.cert", nil}, theDisk}, "several files .cert"},
		"a manifest that is none":      {[]member{d, member{"a.mf", []byte("hello")}, theDisk}, "a.mf"},
		"another that is none":         {[]member{d, member{"z.mf", []byte("hello")}, good, theDisk}, ""},
		"a late descriptor":            {[]member{theDisk, d, other, good}, ""},
		"names in a folder":            {[]member{d, member{"x/a.mf", other.data}, good, theDisk}, ""},
	} {
		still, arriving := both(t, archive(t, tar.FormatUSTAR, c.files...))
		if diff := difference(still, arriving); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if (c.err == "") != (still.err == nil) || still.err != nil && !strings.Contains(still.err.Error(), c.err) {
			t.Errorf("%s: %v", name, still.err)
		}
	}
}

// TestAnotherManifestThatComesTooLate has files that passed by before the
// manifest came that has their digests: whose algorithm nobody knew.
func TestAnotherManifestThatComesTooLate(t *testing.T) {
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="f" ovf:href="disk"/>`)}
	theDisk := member{"disk", []byte("what the disk holds")}
	other := member{"z.mf", []byte("SHA1(theDisk)= 0000000000000000000000000000000000000000\n")}
	_, err := appliance.VerifyStream(t.Context(), bytes.NewReader(archive(t, tar.FormatUSTAR, d, other, theDisk, manifestOf(d, theDisk))), appliance.VerifyOptions{})
	if !errors.Is(err, appliance.ErrInvalid) || !strings.Contains(err.Error(), "save the archive to a file") {
		t.Errorf("%v", err)
	}
}

// withSums gives all that looks like a header the checksum that it should have,
// so that what else is in it is looked at.
func withSums(data []byte) []byte {
	data = bytes.Clone(data)
	for at := 0; at+512 <= len(data); at += 512 {
		block := data[at : at+512]
		if string(block[257:262]) != "ustar" {
			continue
		}
		sum := 8 * int(' ')
		for i, b := range block {
			if i < 148 || i > 155 {
				sum += int(b)
			}
		}
		copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
	return data
}

// FuzzAgree looks for archives that are one thing when they are read from a file
// and another when they arrive.
func FuzzAgree(f *testing.F) {
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatGNU, tar.FormatPAX} {
		f.Add(flipped(f, format)[:10240], true)
	}
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="f" ovf:href="disk"/>`)}
	theDisk := member{"disk", []byte("what the disk holds")}
	f.Add(archive(f, tar.FormatUSTAR, d, manifestOf(d, theDisk), member{"a.cert", []byte("x")}, theDisk), false)
	f.Add(archive(f, tar.FormatPAX, d, member{strings.Repeat("long", 60), nil}, theDisk, manifestOf(d, theDisk)), true)
	f.Fuzz(func(t *testing.T, data []byte, sums bool) {
		if len(data) > 1<<16 {
			return
		}
		if sums {
			data = withSums(data)
		}
		still, arriving := both(t, data)
		if still.err != nil && !errors.Is(still.err, appliance.ErrInvalid) && !errors.Is(still.err, appliance.ErrAltered) && !errors.Is(still.err, disk.ErrOutside) {
			t.Fatalf("an error without a cause: %v", still.err)
		}
		// Whoever reads once refuses some that could be read by seeking, and
		// is right in that; the other way round would be a hole.
		if strings.Contains(fmt.Sprint(arriving.err), "save the archive") {
			return
		}
		if diff := difference(still, arriving); diff != "" {
			t.Fatal(diff)
		}
	})
}
