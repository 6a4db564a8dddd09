package disks

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compare"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/diskmodel"
)

// content is a disk of 4 MiB with some text and some zeroes.
func content() []byte {
	b := make([]byte, 4<<20)
	diskmodel.Text(rand.New(rand.NewPCG(1, 2)), b[100_000:2_500_000])
	return b
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, b []byte) string {
	t.Helper()
	check(t, os.WriteFile(path, b, 0o666))
	return path
}

// image makes an image of content in a format.
func image(t testing.TB, format, subformat string) []byte {
	t.Helper()
	dir := t.TempDir()
	src, err := local.Open(write(t, filepath.Join(dir, "in"), content()))
	check(t, err)
	defer src.Close()
	img, err := formats.Open(t.Context(), src, "raw", disk.OpenOptions{})
	check(t, err)
	f, err := formats.ByName(format)
	check(t, err)
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{})
	w, err := f.Create(t.Context(), set, disk.CreateOptions{Name: "out", Size: img.Size(), Subformat: subformat})
	check(t, err)
	_, err = convert.Run(t.Context(), img, w, convert.Options{})
	check(t, err)
	check(t, set.Commit(t.Context()))
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	check(t, err)
	return b
}

type entry struct {
	name string
	data []byte
}

// pack makes an OVA of a descriptor with one disk in disk.img.
func pack(t testing.TB, fileAttributes, format string, files []entry, digests bool) string {
	t.Helper()
	descriptor := fmt.Sprintf(`<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="file1" ovf:href="disk.img" %s/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="4194304" ovf:format="%s"/>
    <Disk ovf:diskId="empty" ovf:capacity="4194304" ovf:format="%s"/>
  </DiskSection>
  <VirtualSystem ovf:id="vm"><Info>A machine</Info></VirtualSystem>
</Envelope>
`, fileAttributes, format, format)
	all := append([]entry{{"a.ovf", []byte(descriptor)}}, files...)
	if digests {
		var mf bytes.Buffer
		for _, e := range all {
			fmt.Fprintf(&mf, "SHA256(%s)= %x\n", e.name, sha256.Sum256(e.data))
		}
		all = append(all[:1:1], append([]entry{{"a.mf", mf.Bytes()}}, all[1:]...)...)
	}
	var ova bytes.Buffer
	w := tar.NewWriter(&ova)
	for _, e := range all {
		check(t, w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.data)), Mode: 0o644, Format: tar.FormatUSTAR}))
		_, err := w.Write(e.data)
		check(t, err)
	}
	check(t, w.Close())
	return write(t, filepath.Join(t.TempDir(), "a.ova"), ova.Bytes())
}

// serve gives the URL of a file, and counts the bytes that are fetched.
func serve(t testing.TB, path string) (url string, fetched *atomic.Int64) {
	fetched = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(counting{w, fetched}, r, path)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/a.ova", fetched
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write(b)
	check(t, err)
	check(t, w.Close())
	return z.Bytes()
}

const vmdkURI = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

// converted converts a package's disk to a raw one and gives its bytes.
func converted(t testing.TB, p *appliance.Package, name string, opt Options) ([]byte, *Source, error) {
	t.Helper()
	src, err := OpenSource(t.Context(), p, name, opt)
	if err != nil {
		return nil, nil, err
	}
	defer func() { check(t, src.Close()) }()
	dir := t.TempDir()
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{})
	defer set.Abort()
	f, err := formats.ByName("raw")
	check(t, err)
	w, err := f.Create(t.Context(), set, convert.Suit(t.Context(), f, src.Disk, disk.CreateOptions{Name: "out"}, true))
	check(t, err)
	if _, err := src.Convert(t.Context(), w, convert.Options{}); err != nil {
		return nil, src, err
	}
	check(t, set.Commit(t.Context()))
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	check(t, err)
	return b, src, nil
}

func TestSources(t *testing.T) {
	vmdk, qcow2 := image(t, "vmdk", ""), image(t, "qcow2", "")
	half := len(vmdk)/2 + 1
	for name, test := range map[string]struct {
		attributes, format string
		files              []entry
		copied             bool // over a network, if at all
	}{
		"streamOptimized": {"", vmdkURI, []entry{{"disk.img", vmdk}}, false},
		"qcow2":           {"", "http://www.gnome.org/~markmc/qcow-image-format.html", []entry{{"disk.img", qcow2}}, true},
		"another format":  {"", vmdkURI, []entry{{"disk.img", qcow2}}, true},
		"raw":             {"", "", []entry{{"disk.img", content()}}, false},
		"gzip":            {`ovf:compression="gzip"`, vmdkURI, []entry{{"disk.img", gzipped(t, vmdk)}}, false},
		"gzip, not said":  {"", vmdkURI, []entry{{"disk.img", gzipped(t, vmdk)}}, false},
		"raw in gzip":     {`ovf:compression="gzip"`, "", []entry{{"disk.img", gzipped(t, content())}}, true},
		"chunks": {fmt.Sprintf(`ovf:chunkSize="%d"`, half), vmdkURI, []entry{
			{"disk.img.000000000", vmdk[:half]}, {"disk.img.000000001", vmdk[half:]},
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			ova := pack(t, test.attributes, test.format, test.files, true)
			url, fetched := serve(t, ova)
			for _, locator := range []string{ova, url} {
				p, err := appliance.Open(t.Context(), locator, appliance.Options{})
				check(t, err)
				defer p.Close()
				before := fetched.Load()
				var notes []string
				temp := t.TempDir()
				got, src, err := converted(t, p, "disk1", Options{TempDir: temp, Note: func(s string) { notes = append(notes, s) }})
				check(t, err)
				if !bytes.Equal(got, content()) || !src.Verified {
					t.Errorf("%s: another disk, or not proved (%v)", locator, src.Verified)
				}
				packed := strings.Contains(name, "raw in gzip")
				if said := len(notes) > 0; said != (test.copied && (locator == url || packed)) {
					t.Errorf("%s: notes %q", locator, notes)
				}
				left, err := os.ReadDir(temp)
				check(t, err)
				if len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				st, err := os.Stat(ova)
				check(t, err)
				if n := fetched.Load() - before; locator == url && !test.copied && n > st.Size()+st.Size()/4+1<<20 {
					t.Errorf("%d bytes are fetched of a package of %d", n, st.Size())
				}

				img, err := Open(t.Context(), p, "disk.img", Options{TempDir: temp})
				check(t, err)
				raw, err := local.Open(write(t, filepath.Join(t.TempDir(), "raw"), content()))
				check(t, err)
				defer raw.Close()
				other, err := formats.Open(t.Context(), raw, "raw", disk.OpenOptions{})
				check(t, err)
				if r, err := compare.Run(t.Context(), img, other, compare.Options{Strict: true}); err != nil || !r.Equal {
					t.Errorf("%s: opened for random access: %+v, %v", locator, r, err)
				}
				check(t, img.Close())
			}
		})
	}
}

// What the manifest does not name is not called proved, and what differs from
// it is not taken.
func TestProof(t *testing.T) {
	vmdk := image(t, "vmdk", "")
	bad := bytes.Clone(vmdk)
	bad[len(bad)-1] ^= 1 // padding of the end-of-stream marker: no format minds
	grain := bytes.Clone(vmdk)
	grain[len(grain)/2] ^= 1
	for name, altered := range map[string][]byte{"padding": bad, "a grain": grain} {
		ova := pack(t, "", vmdkURI, []entry{{"disk.img", vmdk}}, true)
		b, err := os.ReadFile(ova)
		check(t, err)
		at := bytes.Index(b, vmdk)
		copy(b[at:], altered)
		check(t, os.WriteFile(ova, b, 0o666))
		url, _ := serve(t, ova)
		for _, locator := range []string{ova, url} {
			p, err := appliance.Open(t.Context(), locator, appliance.Options{})
			check(t, err)
			defer p.Close()
			if _, _, err := converted(t, p, "disk1", Options{}); !errors.Is(err, appliance.ErrAltered) {
				t.Errorf("%s of %s: %v", name, locator, err)
			}
		}
	}

	p, err := appliance.Open(t.Context(), pack(t, "", vmdkURI, []entry{{"disk.img", vmdk}}, false), appliance.Options{})
	check(t, err)
	defer p.Close()
	_, src, err := converted(t, p, "disk1", Options{})
	check(t, err)
	if src.Verified {
		t.Error("proved without a manifest")
	}
}

func TestFind(t *testing.T) {
	p, err := appliance.Open(t.Context(), pack(t, "", vmdkURI, []entry{{"disk.img", nil}}, false), appliance.Options{})
	check(t, err)
	defer p.Close()
	env := p.Document().Envelope()
	for _, name := range []string{"disk1", "file1", "disk.img", ""} {
		if r, err := Find(env, name); err != nil || r.Disk == nil || r.Disk.ID != "disk1" {
			t.Errorf("%q: %+v, %v", name, r, err)
		}
	}
	for _, name := range []string{"empty", "disk2"} {
		if _, err := Find(env, name); !errors.Is(err, ErrNoDisk) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCancelledProof(t *testing.T) {
	p, err := appliance.Open(t.Context(), pack(t, "", vmdkURI, []entry{{"disk.img", image(t, "vmdk", "")}}, true), appliance.Options{})
	check(t, err)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	src, err := OpenSource(ctx, p, "disk1", Options{})
	check(t, err)
	cancel()
	f, err := formats.ByName("raw")
	check(t, err)
	set := atomicfile.New(ctx, t.TempDir(), atomicfile.Options{})
	defer set.Abort()
	w, err := f.Create(t.Context(), set, disk.CreateOptions{Name: "out", Size: 4 << 20})
	check(t, err)
	if _, err := src.Convert(ctx, w, convert.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check(t, src.Close())
}
