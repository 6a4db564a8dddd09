package disks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/readahead"
)

// Source is a disk of a package that is read once, and proved on the way.
type Source struct {
	// Disk is what convert.Run reads: Convert does so, and proves it.
	Disk convert.Source
	// Verified says that the manifest has a digest for all the files; what
	// they hold is known to be right when Convert has ended without error.
	Verified bool

	finish func(context.Context) error
	close  func() error
}

// Close frees what the source holds.
func (s *Source) Close() error { return s.close() }

// Convert makes an image of the disk by w, which Suit may have been asked for,
// and proves the package's files on the way. Files that are not those of the
// manifest give appliance.ErrAltered; what was written is to be thrown away
// then, as with every error. opt.Trusted is set where the files are being
// proved.
func (s *Source) Convert(ctx context.Context, w disk.Writer, opt convert.Options) (convert.Stats, error) {
	opt.Trusted = opt.Trusted || s.Verified
	stats, err := convert.Run(ctx, s.Disk, w, opt)
	if err != nil && !(s.Verified && (errors.Is(err, disk.ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF))) {
		return stats, err
	}
	// A disk that is damaged because its file was altered is the one that
	// was altered.
	if altered := s.finish(ctx); err == nil || errors.Is(altered, appliance.ErrAltered) {
		err = altered
	}
	return stats, err
}

// blocks and blockSize are how far a network is read ahead.
const (
	blocks    = 4
	blockSize = 1 << 20
)

// OpenSource opens a disk of a package to be converted. A file that lies here is
// read in any order and proved beside that; one that comes over a network, or
// compressed, is converted as it arrives where its format allows, and copied
// before where not.
func OpenSource(ctx context.Context, p *appliance.Package, name string, opt Options) (*Source, error) {
	ref, err := find(p, name)
	if err != nil {
		return nil, err
	}
	if ref.Disk == nil || ref.Disk.ParentRef == "" {
		s, err := stream(ctx, p, ref, opt)
		if s != nil || err != nil {
			return s, err
		}
	}
	f := newProving(ctx, p, opt)
	img, err := open(ctx, p, ref, f, opt)
	if err != nil {
		return nil, err
	}
	for _, n := range img.Info().Notes {
		opt.note("%s: %s", ref.File.Href, n)
	}
	return &Source{Disk: img, Verified: f.verified(), finish: f.finish, close: img.Close}, nil
}

// contentSize gives how much a compressed file holds, -1 where it would have to
// be fetched twice to tell.
func contentSize(ctx context.Context, p *appliance.Package, href string, opt Options) (int64, error) {
	if remote(p) {
		return -1, nil
	}
	files := p.Unverified()
	defer files.Close()
	f, err := files.OpenFile(ctx, href)
	if err != nil {
		return 0, err
	}
	head, err := compressed.Head(f)
	if err != nil {
		return 0, err
	}
	return formats.PackedSize(ctx, f, compressed.Detect(head), func(s string) { opt.note("%s: %s", href, s) })
}

// stream opens a disk that is better read as it comes; nil where it is not.
func stream(ctx context.Context, p *appliance.Package, ref Ref, opt Options) (*Source, error) {
	if opt.Format != "" {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	r, err := p.OpenReader(ctx, ref.File.Href)
	if err != nil {
		cancel()
		return nil, err
	}
	content, more, err := appliance.Expand(reference(p, ref.File.Href), r)
	if err != nil || !more && !remote(p) {
		cancel()
		return nil, errors.Join(err, r.Close())
	}
	size := func() (int64, error) { return r.Size(), nil }
	if more {
		most := mostContent(p.Document().Envelope(), ref.File.Href)
		content = Bound(p.Document().Envelope(), ref.File.Href, content)
		size = func() (int64, error) {
			n, err := contentSize(ctx, p, ref.File.Href, opt)
			if err == nil && n > most {
				err = overCapacity(ref.File.Href, most)
			}
			return n, err
		}
	}
	// Not before the format is known to come in order is more of it fetched.
	in := &struct{ io.Reader }{content}
	s, err := formats.OpenStreamAs(ctx, in, "", size)
	if err != nil {
		cancel()
		if err := r.Close(); err != nil {
			return nil, err
		}
		if errors.Is(err, disk.ErrNeedsSeek) {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: %w", ref.File.Href, err)
	}
	ahead := readahead.New(ctx, content, blocks, blockSize)
	in.Reader = ahead
	end := func() error {
		cancel()
		return errors.Join(ahead.Close(), r.Close())
	}
	return &Source{
		Disk: s, Verified: r.Verified(), close: end,
		finish: func(ctx context.Context) error {
			if err := drain(ctx, ahead); err != nil {
				return err
			}
			// What is behind the compressed stream belongs to the file.
			return drain(ctx, r)
		},
	}, nil
}
