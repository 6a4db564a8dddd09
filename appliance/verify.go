package appliance

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/readahead"
	"github.com/ovation-project/ovation/ovf"
)

// State is what was found of a file.
type State string

// The states.
const (
	// OK: the digest is the manifest's.
	OK State = "ok"
	// Altered: the digest is another one.
	Altered State = "altered"
	// Missing: the manifest or the descriptor names it, and it is not there.
	Missing State = "missing"
	// WrongSize: it has not the size that the descriptor gives.
	WrongSize State = "wrong-size"
	// Unlisted: the descriptor refers to it, and the manifest has no digest.
	Unlisted State = "unlisted"
	// Extra: it is in the package, and neither the descriptor nor the
	// manifest names it.
	Extra State = "extra"
	// Unchecked: there is no manifest.
	Unchecked State = "unchecked"
)

// FileReport is what was found of one file.
type FileReport struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Size is in bytes, -1 for a file that is missing.
	Size      int64  `json:"size"`
	Offset    int64  `json:"offset,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Expected  string `json:"expected,omitempty"`
	Detail    string `json:"detail,omitempty"`
	// Damage says where an altered file is altered, as far as chunk digests
	// tell.
	Damage []Damage `json:"damage,omitempty"`
}

// Report is what was found of a package.
type Report struct {
	Locator string `json:"locator"`
	// Manifest is the manifest's name, "" where there is none.
	Manifest string `json:"manifest,omitempty"`
	// Certificate is the certificate file's name, "" where there is none.
	Certificate string `json:"certificate,omitempty"`
	// ManifestData and CertificateData are the two as they are stored.
	ManifestData    []byte       `json:"-"`
	CertificateData []byte       `json:"-"`
	Files           []FileReport `json:"files"`
	Notes           []string     `json:"notes,omitempty"`
}

// Err is nil where nothing speaks against the package; else an error that is
// ErrAltered or ErrIncomplete and names every file that is wrong.
func (r *Report) Err() error {
	var texts []string
	kind := error(nil)
	for _, f := range r.Files {
		switch f.State {
		case Altered, WrongSize, Unlisted:
			kind = ErrAltered
		case Missing:
			if kind == nil {
				kind = ErrIncomplete
			}
		default:
			continue
		}
		texts = append(texts, f.Detail)
	}
	if kind == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", kind, strings.Join(texts, "; "))
}

// Provable says whether all that the package is made of can be proved by its
// manifest while it is used: the descriptor, as it was read, is the manifest's,
// and every file that it refers to and that is there has a digest. Where that is
// not so the error is ErrAltered. A package without a manifest proves nothing,
// and gives none.
func (p *Package) Provable(ctx context.Context) error {
	if p.manifest == nil {
		return nil
	}
	if err := p.ProveDescriptor(); err != nil {
		return err
	}
	var lacking []string
	for _, f := range p.doc.Envelope().References {
		name, err := p.undigested(ctx, f)
		if err != nil {
			return err
		}
		if name != "" {
			lacking = append(lacking, noDigest(name))
		}
	}
	if lacking != nil {
		return fmt.Errorf("%w: %s", ErrAltered, strings.Join(lacking, "; "))
	}
	return nil
}

// undigested names the first stored file of a reference that is there and has no
// digest, "" where there is none. A server is asked only for what the manifest
// does not name.
func (p *Package) undigested(ctx context.Context, f *ovf.File) (string, error) {
	for i := int64(0); ; i++ {
		href := f.Href
		if f.ChunkSize > 0 {
			if i > 0 && f.Size >= 0 && i > (f.Size-1)/f.ChunkSize {
				return "", nil
			}
			href = fmt.Sprintf("%s.%09d", f.Href, i)
		}
		_, listed := p.digest(href)
		if plain, err := url.PathUnescape(href); err == nil && !listed {
			_, listed = p.digest(strings.TrimPrefix(plain, "./"))
		}
		switch {
		case listed && f.ChunkSize > 0:
			continue
		case listed:
			return "", nil
		}
		e, err := p.resolve(ctx, href)
		if errors.Is(err, ErrIncomplete) || errors.Is(err, disk.ErrOutside) {
			return "", nil // whoever wants it is told
		}
		if err != nil {
			return "", err
		}
		if _, listed = p.digest(e.Name); listed {
			return "", nil
		}
		return e.Name, nil
	}
}

func noDigest(name string) string { return fmt.Sprintf("%s has no digest in the manifest", name) }

// ProveDescriptor compares the descriptor with the manifest: the very bytes that
// everything is decided from, and not those that are there by now. One that is
// another, or has no digest there, gives ErrAltered; without a manifest there is
// nothing to compare with.
func (p *Package) ProveDescriptor() error {
	if p.manifest == nil {
		return nil
	}
	want, ok := p.digest(p.descName)
	if !ok {
		return fmt.Errorf("%w: %s", ErrAltered, noDigest(p.descName))
	}
	h := want.Hash.New()
	h.Write(p.doc.Bytes())
	if got := h.Sum(nil); !bytes.Equal(got, want.Sum) {
		return &AlteredError{Name: p.descName, Algorithm: manifest.Name(want.Hash), Want: want.Sum, Got: got}
	}
	return nil
}

// VerifyOptions change how Verify works.
type VerifyOptions struct {
	// Progress, where set, is given the number of bytes that were read, as
	// it grows. It may be called concurrently.
	Progress func(n int64)
}

// Verify reads every file once and compares it with the manifest and the
// descriptor. What it finds is in the report; an error means that it could not
// read.
func (p *Package) Verify(ctx context.Context, opt VerifyOptions) (*Report, error) {
	r := p.newReport(p.locator)
	plan, err := p.plan(ctx)
	if err != nil {
		return nil, err
	}
	r.Files = make([]FileReport, len(plan))
	g, ctx := errgroup.WithContext(ctx)
	// Files of a folder are read two at a time; an archive once, front to
	// back, as disks and networks like it.
	g.SetLimit(1)
	if p.kind == Folder {
		g.SetLimit(2)
	}
	for i, f := range plan {
		g.Go(func() error {
			var err error
			r.Files[i], err = p.verifyFile(ctx, f, opt.Progress)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	if t, ok := p.src.(*tarball); ok && p.manifest != nil {
		faults, err := t.framing(p.entries)
		r.Files = append(r.Files, faults...)
		return r, err
	}
	return r, nil
}

func (p *Package) newReport(locator string) *Report {
	return &Report{Locator: locator, Manifest: p.mfName, Certificate: p.certName, ManifestData: p.mfBytes, CertificateData: p.cert, Notes: p.Notes()}
}

// Size is how many bytes Verify is to read, for progress; files on a web server
// whose size is not known are not counted.
func (p *Package) Size() int64 {
	var n int64
	for _, e := range p.entries {
		n += max(0, e.Size)
	}
	return n
}

// planned is one file to look at: stored, or missing.
type planned struct {
	name     string
	entry    *Entry
	ref      *ovf.File // the reference that it is for, nil for none
	chunk    bool
	digest   *manifest.Digest
	whyNot   error
	own      bool // the manifest or the certificate
	expected bool
}

// plan lists the files: those that are stored in their order, then those that
// ought to be.
func (p *Package) plan(ctx context.Context) ([]planned, error) {
	refs := map[string]planned{}
	entries := p.Entries()
	var missing []planned
	named := map[string]bool{} // of missing
	for _, f := range p.doc.Envelope().References {
		pieces, err := p.pieces(ctx, f.Href)
		if err != nil {
			if !errors.Is(err, ErrIncomplete) {
				return nil, err
			}
			missing = append(missing, planned{name: f.Href, ref: f, whyNot: err})
			named[f.Href] = true
			continue
		}
		for _, e := range pieces {
			refs[e.Name] = planned{name: e.Name, ref: f, chunk: f.ChunkSize > 0}
			if _, ok := p.byName[e.Name]; !ok { // found on a server by asking
				entries = append(entries, e)
			}
		}
	}
	if p.manifest != nil {
		for _, d := range p.manifest.Digests {
			if _, err := p.resolve(ctx, d.Name); err != nil {
				if !errors.Is(err, ErrIncomplete) {
					return nil, err
				}
				if _, also := refs[d.Name]; !also && !named[d.Name] {
					missing = append(missing, planned{name: d.Name, whyNot: err})
				}
			}
		}
	}
	var all []planned
	for _, e := range entries {
		f, ok := refs[e.Name]
		f.name, f.entry = e.Name, &e
		if d, listed := p.digest(e.Name); listed {
			f.digest = &d
			ok = true
		}
		f.own = e.Name == p.mfName || e.Name == p.certName
		f.expected = ok || e.Name == p.descName
		if !f.expected && !f.own && p.kind == Folder {
			continue // a folder may hold what is not the package's
		}
		all = append(all, f)
	}
	return append(all, missing...), nil
}

func (p *Package) verifyFile(ctx context.Context, f planned, progress func(int64)) (FileReport, error) {
	out := FileReport{Name: f.name, Size: -1, State: Unchecked}
	if f.entry == nil {
		out.State, out.Detail = Missing, fmt.Sprintf("%s is missing", f.name)
		return out, nil
	}
	out.Size, out.Offset = f.entry.Size, f.entry.Offset
	switch {
	case f.own:
		out.State = OK
		return out, nil
	case f.digest != nil:
		if err := p.compare(ctx, f, &out, progress); err != nil {
			return out, err
		}
	case !f.expected:
		out.State, out.Detail = Extra, fmt.Sprintf("%s is in the package, and nothing refers to it", f.name)
	case p.manifest != nil:
		out.State, out.Detail = Unlisted, noDigest(f.name)
	}
	// Sizes of 0 stand for "not known" in the wild.
	if f.ref != nil && !f.chunk && f.ref.Size > 0 && f.ref.Size != out.Size && out.State != Altered {
		detail := fmt.Sprintf("%s has %d bytes, and the descriptor says %d", f.name, out.Size, f.ref.Size)
		out.State, out.Detail = WrongSize, detail
	}
	return out, nil
}

// compare reads a file and its digest.
func (p *Package) compare(ctx context.Context, f planned, out *FileReport, progress func(int64)) error {
	body, err := p.src.reader(ctx, *f.entry, 0)
	if err != nil {
		return err
	}
	defer body.Close()
	h := f.digest.Hash.New()
	n, err := copyCounting(ctx, h, body, f.entry.Size, progress)
	if err != nil {
		return fmt.Errorf("%s: at byte %d: %w", f.name, n, err)
	}
	sum := h.Sum(nil)
	out.Algorithm = manifest.Name(f.digest.Hash)
	out.Digest = fmt.Sprintf("%x", sum)
	out.Size = n
	if out.State = OK; string(sum) != string(f.digest.Sum) {
		out.State, out.Expected = Altered, fmt.Sprintf("%x", f.digest.Sum)
		out.Detail = (&AlteredError{Name: f.name, Algorithm: out.Algorithm, Want: f.digest.Sum, Got: sum}).Error()
		if out.Damage, err = p.locate(ctx, *f.entry); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		for i, d := range out.Damage {
			if i == 8 {
				out.Detail += fmt.Sprintf(", and %d more places", len(out.Damage)-i)
				break
			}
			out.Detail += fmt.Sprintf("%s bytes %d to %d", map[bool]string{true: "; altered in", false: ","}[i == 0], d.First, d.Last)
		}
	}
	return nil
}

// copyCounting copies with one buffer read ahead of the one that is hashed, so
// that reading and hashing go on at once.
// expect is how much is to come, less than 0 where that is not known.
func copyCounting(ctx context.Context, w io.Writer, r io.Reader, expect int64, progress func(int64)) (int64, error) {
	size := 1 << 20
	if expect >= 0 && expect < int64(size) {
		size = int(expect) + 1 // one more, which finds the end at once
	}
	type filled struct {
		b   []byte
		err error
	}
	free, full := make(chan []byte, 3), make(chan filled, 3)
	for range cap(free) {
		free <- make([]byte, size)
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var b []byte
			select {
			case b = <-free:
			case <-ctx.Done():
				return
			}
			n, err := io.ReadFull(r, b)
			if err == io.ErrUnexpectedEOF {
				err = io.EOF
			}
			select {
			case full <- filled{b[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() { stop(); <-done }() // r must not be used any more
	var total int64
	for {
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case f := <-full:
			n, _ := w.Write(f.b)
			total += int64(n)
			if progress != nil {
				progress(int64(n))
			}
			if f.err == io.EOF {
				return total, nil
			}
			if f.err != nil {
				return total, f.err
			}
			free <- f.b[:size]
		}
	}
}

// VerifyStream reads an archive once, front to back, and compares its files
// with the manifest wherever in the archive that stands. It stores nothing but
// the descriptor and the manifest.
func VerifyStream(ctx context.Context, r io.Reader, opt VerifyOptions) (*Report, error) {
	_, report, err := Receive(ctx, r, ReceiveOptions{Progress: opt.Progress})
	return report, err
}

// ReceiveOptions say what is done with an archive that arrives once.
type ReceiveOptions struct {
	// File, where set, is given each file but the descriptor, the manifest
	// and the certificate as it arrives. What it does not read is passed
	// over. Nothing of it is proved before Receive has ended and the
	// report's Err is nil.
	File func(ctx context.Context, doc *ovf.Document, f *StreamFile) error
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
// File is set, an archive whose descriptor does not come first is refused.
func Receive(ctx context.Context, r io.Reader, opt ReceiveOptions) (*Package, *Report, error) {
	s := NewStream(r)
	v := &streamVerifier{sums: map[string]map[crypto.Hash][]byte{}, file: opt.File}
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
	sums map[string]map[crypto.Hash][]byte
}

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
	if v.file != nil && small == 0 {
		if err := v.hand(ctx, w, f, progress); err != nil {
			return err
		}
	} else if _, err := copyCounting(ctx, w, f, f.Size, progress); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	sums := map[crypto.Hash][]byte{}
	for h, sum := range hashes {
		sums[h] = sum(nil)
	}
	v.sums[f.Name] = sums
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
		m, err := manifest.Parse(keep.b)
		if err != nil {
			return fmt.Errorf("%s: %w: %w", f.Name, ErrInvalid, err)
		}
		v.p.manifest, v.p.mfName, v.p.mfBytes = m, f.Name, keep.b
	case hasSuffixFold(f.Name, ".cert"):
		v.p.certName, v.p.cert = f.Name, keep.b
	}
	return nil
}

// hand hands a file on, with all of its bytes hashed on the way.
func (v *streamVerifier) hand(ctx context.Context, w io.Writer, f *StreamFile, progress func(int64)) error {
	if v.p.doc == nil {
		return fmt.Errorf("%w: %s comes before the descriptor, so that the archive cannot be used as it arrives; save it to a file", ErrInvalid, f.Name)
	}
	hashed := readahead.New(ctx, &tee{f, w, progress}, ahead, aheadSize)
	err := v.file(ctx, v.p.doc, &StreamFile{f.Entry, hashed})
	if err == nil {
		_, err = io.Copy(io.Discard, struct{ io.Reader }{hashed})
		if err != nil {
			err = fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx)) // what it reads from may never answer
	}
	return errors.Join(err, hashed.Close())
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
	if v.p.manifest != nil {
		d, ok := v.p.manifest.Lookup(name)
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

func (v *streamVerifier) report() (*Report, error) {
	if v.p.doc == nil {
		return nil, fmt.Errorf("%w: there is no descriptor (.ovf) in it", ErrInvalid)
	}
	v.p.kind, v.p.src = Archive, noSource{}
	if err := v.p.index(v.p.entries); err != nil {
		return nil, err
	}
	if v.p.manifest != nil {
		if err := v.p.checkManifest(); err != nil {
			return nil, err
		}
	}
	v.p.chunked, v.p.declared = map[string]*ovf.File{}, map[string]*ovf.File{}
	for _, f := range v.p.doc.Envelope().References {
		if v.p.declared[f.Href] == nil {
			v.p.declared[f.Href] = f
		}
		if f.ChunkSize > 0 {
			v.p.chunked[f.Href] = f
		}
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
			sum := v.sums[f.name][digest.Hash]
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
