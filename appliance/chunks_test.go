package appliance_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/chunkdigest"
)

// withChunks is an archive of a disk of a little over one chunk, with digests of
// the two.
func withChunks(t testing.TB) (data, disk []byte) {
	t.Helper()
	disk = make([]byte, chunkdigest.Unit+4711)
	r := rand.NewChaCha8([32]byte{3})
	_, _ = r.Read(disk)
	h := chunkdigest.NewHasher("disk")
	_, _ = h.Write(disk)
	list := chunkdigest.List{Files: []*chunkdigest.File{h.File()}}
	d := member{"a.ovf", fmt.Appendf(nil, descriptor, `<File ovf:id="f" ovf:href="disk"/><File ovf:id="c" ovf:href="a.chunks"/>`)}
	content, chunks := member{"disk", disk}, member{"a.chunks", list.Marshal()}
	return archive(t, tar.FormatUSTAR, d, manifestOf(d, content, chunks), content, chunks), disk
}

// TestNothingAlteredIsHandedOn flips a bit at each of 1,000 places of a disk that
// has chunk digests. Whoever reads it from front to back gets all the chunks
// before that one and not a byte of it; whoever reads it here and there gets
// nothing of it either, and all the others.
func TestNothingAlteredIsHandedOn(t *testing.T) {
	whole, disk := withChunks(t)
	start := bytes.Index(whole, disk)
	path := filepath.Join(t.TempDir(), "a.ova")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(path))))
	defer server.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(5, 5))
	here := open(t, path)
	for i := range 1000 {
		at := r.IntN(len(disk))
		if i%2 == 1 {
			at = chunkdigest.Unit + r.IntN(len(disk)-chunkdigest.Unit)
		}
		chunk := int64(at) / chunkdigest.Unit
		flip := func() {
			whole[start+at] ^= 1 << (i % 8)
			if _, err := f.WriteAt(whole[start+at:][:1], int64(start+at)); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		p := here
		if i%50 < 2 { // one server does as another
			p = open(t, server.URL+"/a.ova")
		}
		checkAltered(t, p, disk, chunk, at)
		flip()
		if t.Failed() {
			t.FailNow()
		}
	}
}

func checkAltered(t *testing.T, p *appliance.Package, disk []byte, chunk int64, at int) {
	t.Helper()
	ctx := context.Background()
	judge := func(how string, err error) {
		t.Helper()
		var m *chunkdigest.MismatchError
		if !errors.Is(err, appliance.ErrAltered) || !errors.As(err, &m) || m.Chunk != chunk || int64(at) < m.First || int64(at) > m.Last {
			t.Errorf("byte %d, %s: %v", at, how, err)
		}
	}
	r, err := p.OpenReader(ctx, "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	judge("front to back", err)
	if !bytes.Equal(got, disk[:chunk*chunkdigest.Unit]) {
		t.Errorf("byte %d: %d bytes were handed on, and not the %d before the chunk", at, len(got), chunk*chunkdigest.Unit)
	}
	files := p.Proved()
	defer files.Close()
	f, err := files.OpenFile(ctx, "disk")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	n, err := f.ReadAt(b, int64(at))
	judge("here and there", err)
	if n > 0 {
		t.Errorf("byte %d: %d bytes of its chunk were handed on", at, n)
	}
	// A read that begins before it gives what is before it.
	if chunk > 0 && at%8 == 0 {
		n, err := f.ReadAt(b, chunk*chunkdigest.Unit-3)
		judge("across", err)
		if n != 3 || !bytes.Equal(b[:3], disk[chunk*chunkdigest.Unit-3:][:3]) {
			t.Errorf("byte %d: %d bytes before its chunk", at, n)
		}
	}
	other := 1 - chunk
	if n, err := f.ReadAt(b, other*chunkdigest.Unit+7); err != nil || !bytes.Equal(b[:n], disk[other*chunkdigest.Unit+7:][:5]) {
		t.Errorf("byte %d: the chunk %d: %v", at, other, err)
	}
}

// TestChunksProveTheWholeFile reads files that are as they should be: to the end,
// and past it.
func TestChunksProveTheWholeFile(t *testing.T) {
	whole, disk := withChunks(t)
	p := open(t, file(t, "a.ova", whole))
	r, err := p.OpenReader(t.Context(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, disk) || !r.Verified() {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	files := p.Proved()
	defer files.Close()
	f, err := files.OpenFile(t.Context(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(disk)+1)
	if n, err := f.ReadAt(got, 0); n != len(disk) || err != io.EOF || !bytes.Equal(got[:n], disk) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestChunkDigestsThatAreAltered has digests that fit an altered disk, and no
// digest of them in the manifest that fits.
func TestChunkDigestsThatAreAltered(t *testing.T) {
	whole, disk := withChunks(t)
	evil := bytes.Clone(disk)
	evil[100] ^= 1
	h := chunkdigest.NewHasher("disk")
	_, _ = h.Write(evil)
	whole = bytes.Replace(whole, disk, evil, 1)
	good := chunkdigest.NewHasher("disk")
	_, _ = good.Write(disk)
	was, is := (&chunkdigest.List{Files: []*chunkdigest.File{good.File()}}).Marshal(), (&chunkdigest.List{Files: []*chunkdigest.File{h.File()}}).Marshal()
	p := open(t, file(t, "a.ova", bytes.Replace(whole, was, is, 1)))
	r, err := p.OpenReader(t.Context(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); len(got) > 0 || !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
