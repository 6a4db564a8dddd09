package appliance_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/appliance"
)

// judge says whether anything was found to be wrong with an archive.
func judge(t testing.TB, data []byte, path string) (fromFile, fromStream error) {
	t.Helper()
	ctx := context.Background()
	report := func(r *appliance.Report, err error) error {
		if err != nil {
			return err
		}
		if r.Manifest == "" {
			return errors.New("there is no manifest")
		}
		return r.Err()
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile = func() error {
		p, err := appliance.Open(ctx, path, appliance.Options{})
		if err != nil {
			return err
		}
		defer p.Close()
		return report(p.Verify(ctx, appliance.VerifyOptions{}))
	}()
	return fromFile, report(appliance.VerifyStream(ctx, bytes.NewReader(data), appliance.VerifyOptions{}))
}

// flipped is the archive whose bits are flipped: sizes that leave padding,
// names that need GNU's long headers, and blocks behind the end.
func flipped(t testing.TB, format tar.Format) []byte {
	t.Helper()
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="f" ovf:href="a-disk1.vmdk"/>`)}
	disk := member{"a-disk1.vmdk", bytes.Repeat([]byte("some of a disk "), 700)}
	data := archive(t, format, d, manifestOf(d, disk), disk)
	return append(data, make([]byte, 10240-len(data)%10240)...)
}

// TestEveryFlippedBitIsFound flips one bit at each of 1,000 random places of an
// archive: in files, manifest, headers, padding and behind the end.
func TestEveryFlippedBitIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ova")
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatGNU} {
		whole := flipped(t, format)
		if a, b := judge(t, whole, path); a != nil || b != nil {
			t.Fatalf("the archive itself: %v; %v", a, b)
		}
		r := rand.New(rand.NewPCG(1, uint64(format)))
		for range 1000 {
			at, bit := r.IntN(len(whole)), r.IntN(8)
			data := bytes.Clone(whole)
			data[at] ^= 1 << bit
			a, b := judge(t, data, path)
			if a == nil || b == nil {
				t.Errorf("%v: bit %d of byte %d (%q): from a file: %v; from a stream: %v", format, bit, at, whole[at], a, b)
			}
		}
	}
}

// TestEveryBitOfAChecksumIsFound flips each bit of where headers keep their
// checksums, which are in no checksum themselves, and of a line of the manifest.
func TestEveryBitOfAChecksumIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ova")
	whole := flipped(t, tar.FormatUSTAR)
	line := bytes.Index(whole, []byte("SHA256("))
	for at := range whole {
		if at%512 < 148 || at%512 > 155 || at > line {
			if at < line || at > line+90 {
				continue
			}
		}
		for bit := range 8 {
			data := bytes.Clone(whole)
			data[at] ^= 1 << bit
			if a, b := judge(t, data, path); a == nil || b == nil {
				t.Errorf("bit %d of byte %d (%q): from a file: %v; from a stream: %v", bit, at, whole[at], a, b)
			}
		}
	}
}

func TestDamageOfTheFrameIsLocated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ova")
	whole := flipped(t, tar.FormatUSTAR)
	end := len(whole) - 1
	pad := bytes.Index(whole, []byte("</Envelope>")) + len("</Envelope>") + 3
	for _, test := range []struct {
		at   int
		want string
	}{
		{end, fmt.Sprintf("byte %d of the archive is not zero, in what follows the archive's end", end)},
		{pad, fmt.Sprintf("byte %d of the archive is not zero, in the padding after a.ovf", pad)},
	} {
		data := bytes.Clone(whole)
		data[test.at] ^= 4
		a, b := judge(t, data, path)
		for _, err := range []error{a, b} {
			if !errors.Is(err, appliance.ErrAltered) || !bytes.Contains([]byte(err.Error()), []byte(test.want)) {
				t.Errorf("%v; want %s", err, test.want)
			}
		}
	}
}
