package appliance

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/httprange"
	"github.com/ovation-project/ovation/internal/redact"
)

// ErrLocal says that a package lies here, where its files are read as they are.
var ErrLocal = errors.New("the package is not on a web server")

// Remote is one stored file of a package on a web server, for whoever keeps by
// himself what he reads of it. Nothing of it is proved.
type Remote struct {
	f            *httprange.File
	offset, size int64
	identity     string
}

// OpenRemote opens a stored file, by its name among the Entries.
func (p *Package) OpenRemote(ctx context.Context, name string) (*Remote, error) {
	e, err := p.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	switch src := p.src.(type) {
	case *tarball:
		if f, ok := src.f.(*httprange.File); ok {
			return &Remote{f: f, offset: e.Offset, size: e.Size, identity: redact.Place(p.address)}, nil
		}
	case *webFolder:
		f, err := src.file(src.ctx, e)
		if err != nil {
			return nil, err
		}
		return &Remote{f: f, size: f.Size(), identity: redact.Place(src.address(e.Name))}, nil
	}
	return nil, fmt.Errorf("%s: %w", p.locator, ErrLocal)
}

// Size is the file's.
func (r *Remote) Size() int64 { return r.size }

// Fetch reads a range by a request of its own, and goes on where the connection
// breaks.
func (r *Remote) Fetch(ctx context.Context, b []byte, off int64) error {
	if off < 0 || off > r.size-int64(len(b)) {
		return fmt.Errorf("%d bytes at %d of %d: %w", len(b), off, r.size, errors.ErrUnsupported)
	}
	return r.f.Fetch(ctx, b, r.offset+off)
}

// Identity are words for this version of the file at this address, whoever
// signed it: secret, as an address may hold more than is known of here. ok is
// false where the server does not tell versions apart.
func (r *Remote) Identity() (words []string, ok bool) {
	return []string{r.identity, fmt.Sprint(r.offset, r.size), r.f.Version()}, r.f.Version() != ""
}

// Passing says of an error of fetching that it may be another one later: the
// network, not the file.
func Passing(err error) bool { return httprange.Passing(err) }

// Join puts files one behind the other.
func Join(parts []disk.File) disk.File {
	if len(parts) == 1 {
		return parts[0]
	}
	return join(parts)
}
