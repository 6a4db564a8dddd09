package appliance

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/readahead"
	"github.com/ovation-project/ovation/ovf"
)

// VerifyStream reads an archive once, front to back, and compares its files
// with the manifest wherever in the archive that stands. It stores nothing but
// the descriptor and the manifest.
func VerifyStream(ctx context.Context, r io.Reader, opt VerifyOptions) (*Report, error) {
	_, report, err := Receive(ctx, r, ReceiveOptions{Progress: opt.Progress})
	return report, err
}

// ReceiveOptions say what is done with an archive that arrives once.
type ReceiveOptions struct {
	// Head, where set, is given the package as far as it is known before the
	// first file that File or Whole would be given: the descriptor, and the
	// manifest and the certificate where they came before (Package.Coming). Its
	// error ends the receiving.
	Head func(ctx context.Context, p *Package) error
	// File, where set, is given each file but the descriptor, the manifest
	// and the certificate as it arrives. What it does not read is passed
	// over. Nothing of it is proved before Receive has ended and the
	// report's Err is nil.
	File func(ctx context.Context, doc *ovf.Document, f *StreamFile) error
	// Whole, where set in place of File, is given each file that the
	// descriptor refers to, with its chunks put together.
	Whole func(ctx context.Context, f *WholeFile) error
	// Progress, where set, is given the number of bytes that were read, as
	// it grows. It may be called concurrently.
	Progress func(n int64)
}

// ahead and aheadSize are how far an archive is read ahead of what is done with
// its files, so that hashing goes on meanwhile.
const (
	ahead     = 4
	aheadSize = 1 << 20
)

// Receive reads an archive once, front to back, and hands its files on as they
// arrive. The package that it gives knows the descriptor, the manifest and what
// else there was; its files have passed by. The report is that of Verify. Where
// files are handed on, an archive whose descriptor does not come first is
// refused, and one whose manifest does ends with the first file that is not the
// manifest's (ErrAltered).
func Receive(ctx context.Context, r io.Reader, opt ReceiveOptions) (*Package, *Report, error) {
	if opt.Whole == nil {
		return receive(ctx, r, opt)
	}
	j := &joiner{take: opt.Whole}
	opt.File = j.file
	p, report, err := receive(ctx, r, opt)
	if last := j.finish(err); err == nil && last != nil {
		if err = report.Err(); !errors.Is(err, ErrAltered) {
			err = last
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return p, report, nil
}

func receive(ctx context.Context, r io.Reader, opt ReceiveOptions) (*Package, *Report, error) {
	s := NewStream(r)
	v := &streamVerifier{sums: map[string]map[crypto.Hash][]byte{}, file: opt.File, head: opt.Head}
	v.p.locator = "-"
	for {
		f, err := s.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if err := v.take(ctx, f, opt.Progress); err != nil {
			return nil, nil, err
		}
	}
	if err := v.begin(ctx); err != nil {
		return nil, nil, err
	}
	report, err := v.report()
	if err == nil && v.p.manifest != nil {
		report.Files = append(report.Files, s.frame.faults...)
	}
	if err != nil {
		return nil, nil, err
	}
	return &v.p, report, nil
}

type streamVerifier struct {
	p    Package
	file func(context.Context, *ovf.Document, *StreamFile) error
	head func(context.Context, *Package) error // nil once it was called
	sums map[string]map[crypto.Hash][]byte
	// manifests and certificates are all that may be the package's, which is
	// known for certain at the end; guess is the manifest that most likely is.
	manifests, certificates []stored
	guess                   *manifest.Manifest
}

// stored is a small file that was kept.
type stored struct {
	name string
	data []byte
}

// maxStored bounds the manifests, and the certificates, that an archive may hold.
const maxStored = 8

func (v *streamVerifier) take(ctx context.Context, f *StreamFile, progress func(int64)) error {
	small := int64(0)
	switch {
	case isDescriptorName(f.Name):
		small = ovf.DefaultMaxSize
	case hasSuffixFold(f.Name, ".mf"):
		small = manifest.MaxSize
	case hasSuffixFold(f.Name, ".cert"):
		small = 1 << 20
	}
	var keep *limited
	hashes := v.hashes(f.Name)
	w := &fan{}
	for h := range hashes {
		n := h.New()
		w.to = append(w.to, n)
		hashes[h] = n.Sum
	}
	if small > 0 {
		if f.Size > small {
			return fmt.Errorf("%s: %w: it has %d bytes, over the limit of %d", f.Name, ErrInvalid, f.Size, small)
		}
		keep = &limited{}
		w.to = append(w.to, keep)
	}
	var handed error
	if v.file != nil && small == 0 {
		handed = v.hand(ctx, w, f, progress)
		if handed != nil && !v.mayBeAltered(handed) {
			return handed
		}
	} else if _, err := copyCounting(ctx, w, f, f.Size, progress); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	sums := map[crypto.Hash][]byte{}
	for h, sum := range hashes {
		sums[h] = sum(nil)
	}
	v.sums[f.Name] = sums
	// Damage that comes of an alteration is the alteration.
	if altered := v.altered(f.Name, sums); altered != nil || handed != nil {
		return cmp.Or(altered, handed)
	}
	v.p.entries = append(v.p.entries, f.Entry)
	switch {
	case isDescriptorName(f.Name):
		doc, err := ovf.Parse(keep.b, ovf.ParseOptions{})
		if err != nil {
			return fmt.Errorf("%s: %w: %w", f.Name, ErrInvalid, err)
		}
		if v.p.doc != nil {
			return fmt.Errorf("%w: there are several descriptors in it: %s, %s", ErrInvalid, v.p.descName, f.Name)
		}
		v.p.doc, v.p.descName = doc, f.Name
	case hasSuffixFold(f.Name, ".mf"):
		v.manifests = append(v.manifests, stored{f.Name, keep.b})
		if v.guess == nil || f.Name == besideName(v.p.descName, ".mf") {
			v.guess, _ = manifest.Parse(keep.b) // one that is wrong is told when it is the package's
		}
	case hasSuffixFold(f.Name, ".cert"):
		v.certificates = append(v.certificates, stored{f.Name, keep.b})
	}
	if len(v.manifests) > maxStored || len(v.certificates) > maxStored {
		return fmt.Errorf("%w: it holds more than %d manifests or certificates", ErrInvalid, maxStored)
	}
	return nil
}

// choose finds the one that is the package's, as for a package that lies still.
func (v *streamVerifier) choose(all []stored, ending string) (stored, error) {
	want := besideName(v.p.descName, ending)
	var names []string
	for _, s := range all {
		if s.name == want {
			return s, nil
		}
		names = append(names, s.name)
	}
	name, err := only(names, ending)
	if name == "" {
		return stored{}, err
	}
	return all[0], nil
}

// loadManifest takes the manifest and the certificate that are the package's.
func (v *streamVerifier) loadManifest() error {
	m, err := v.choose(v.manifests, ".mf")
	if err != nil {
		return err
	}
	c, err := v.choose(v.certificates, ".cert")
	if err != nil {
		return err
	}
	v.p.mfName, v.p.mfBytes, v.p.certName, v.p.cert = m.name, m.data, c.name, c.data
	if m.name == "" {
		return nil
	}
	return v.p.parseManifest()
}

// hand hands a file on, with all of its bytes hashed on the way.
func (v *streamVerifier) hand(ctx context.Context, w io.Writer, f *StreamFile, progress func(int64)) error {
	if v.p.doc == nil {
		return fmt.Errorf("%w: %s comes before the descriptor, so that the archive cannot be used as it arrives; save it to a file", ErrInvalid, f.Name)
	}
	if err := v.begin(ctx); err != nil {
		return err
	}
	hashed := readahead.New(ctx, &tee{f, w, progress}, ahead, aheadSize)
	err := v.file(ctx, v.p.doc, &StreamFile{f.Entry, hashed})
	if err == nil || v.mayBeAltered(err) {
		if _, rest := io.Copy(io.Discard, struct{ io.Reader }{hashed}); err == nil && rest != nil {
			err = fmt.Errorf("%s: %w", f.Name, rest)
		}
	}
	if ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx)) // what it reads from may never answer
	}
	return errors.Join(err, hashed.Close())
}

// begin shows what is known before the first file.
func (v *streamVerifier) begin(ctx context.Context) error {
	if v.head == nil || v.p.doc == nil {
		return nil
	}
	show := v.head
	v.head = nil
	h := &streamVerifier{manifests: v.manifests, certificates: v.certificates}
	h.p.locator, h.p.descName, h.p.doc, h.p.coming = v.p.locator, v.p.descName, v.p.doc, true
	h.p.entries = slices.Clone(v.p.entries)
	if err := h.complete(); err != nil {
		return err
	}
	return show(ctx, &h.p)
}

// certain says that the manifest that has come is the package's.
func (v *streamVerifier) certain() bool {
	return v.guess != nil && slices.ContainsFunc(v.manifests, func(s stored) bool { return s.name == besideName(v.p.descName, ".mf") })
}

// mayBeAltered says that a file's digest would tell why it could not be used.
func (v *streamVerifier) mayBeAltered(err error) bool {
	return v.certain() && errors.Is(err, disk.ErrCorrupt)
}

// altered is the error for a file that was handed on and is not the manifest's,
// where that is known by now.
func (v *streamVerifier) altered(name string, sums map[crypto.Hash][]byte) error {
	if v.file == nil || !v.certain() {
		return nil
	}
	want, listed := v.guess.Lookup(name)
	if !listed || string(sums[want.Hash]) == string(want.Sum) {
		return nil
	}
	return &AlteredError{Name: name, Algorithm: manifest.Name(want.Hash), Want: want.Sum, Got: sums[want.Hash]}
}

// tee hashes and counts what is read.
type tee struct {
	r        io.Reader
	w        io.Writer
	progress func(int64)
}

func (t *tee) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	_, _ = t.w.Write(b[:n])
	if t.progress != nil && n > 0 {
		t.progress(int64(n))
	}
	return n, err
}

// hashes says which digests to take of a file: the manifest's, or all where it
// has not come yet.
func (v *streamVerifier) hashes(name string) map[crypto.Hash]func([]byte) []byte {
	if v.guess != nil {
		d, ok := v.guess.Lookup(name)
		if !ok {
			return nil
		}
		return map[crypto.Hash]func([]byte) []byte{d.Hash: nil}
	}
	return map[crypto.Hash]func([]byte) []byte{crypto.SHA1: nil, crypto.SHA256: nil, crypto.SHA384: nil, crypto.SHA512: nil}
}

type fan struct{ to []io.Writer }

func (f *fan) Write(b []byte) (int, error) {
	for _, w := range f.to {
		if _, err := w.Write(b); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

type limited struct{ b []byte }

func (l *limited) Write(b []byte) (int, error) {
	l.b = append(l.b, b...)
	return len(b), nil
}

// complete makes a package of what came.
func (v *streamVerifier) complete() error {
	v.p.kind, v.p.src = Archive, noSource{}
	if err := v.p.index(v.p.entries); err != nil {
		return err
	}
	if err := v.loadManifest(); err != nil {
		return err
	}
	v.p.refer()
	return nil
}

func (v *streamVerifier) report() (*Report, error) {
	if v.p.doc == nil {
		return nil, fmt.Errorf("%w: there is no descriptor (.ovf) in it", ErrInvalid)
	}
	if err := v.complete(); err != nil {
		return nil, err
	}
	plan, err := v.p.plan(context.Background())
	if err != nil {
		return nil, err
	}
	r := v.p.newReport("-")
	for _, f := range plan {
		digest := f.digest
		f.digest = nil
		out, err := v.p.verifyFile(context.Background(), f, nil)
		if err != nil {
			return nil, err
		}
		if digest != nil && f.entry != nil {
			sum, taken := v.sums[f.name][digest.Hash]
			if !taken {
				return nil, fmt.Errorf("%w: it holds several manifests, and %s had passed by when %s came; save the archive to a file", ErrInvalid, f.name, v.p.mfName)
			}
			out.Algorithm, out.Digest = manifest.Name(digest.Hash), fmt.Sprintf("%x", sum)
			switch {
			case string(sum) != string(digest.Sum):
				out.State, out.Expected = Altered, fmt.Sprintf("%x", digest.Sum)
				out.Detail = (&AlteredError{Name: f.name, Algorithm: out.Algorithm, Want: digest.Sum, Got: sum}).Error()
			case out.State == Unlisted:
				out.State, out.Detail = OK, ""
			}
		}
		r.Files = append(r.Files, out)
	}
	return r, nil
}
