package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ovation-project/ovation/appliance/manifest"
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

// copyCounting copies, reading ahead of what is hashed, so that both go on at
// once.
// expect is how much is to come, less than 0 where that is not known.
func copyCounting(ctx context.Context, w io.Writer, r io.Reader, expect int64, progress func(int64)) (int64, error) {
	size := aheadHashed
	if expect >= 0 && expect < int64(size) {
		size = int(expect) + 1 // one more, which finds the end at once
	}
	in := readahead.New(ctx, r, aheadBlocks, size)
	defer in.Close() // r must not be used any more
	return in.WriteTo(writeFunc(func(b []byte) (int, error) {
		n, err := w.Write(b)
		if progress != nil {
			progress(int64(n))
		}
		return n, err
	}))
}

// How much is read ahead of what is hashed: blocks, and bytes of each.
const (
	aheadBlocks = 3
	aheadHashed = 1 << 20
)

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }
