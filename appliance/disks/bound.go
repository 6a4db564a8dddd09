package disks

import (
	"fmt"
	"io"
	"math"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/ovf"
)

// mostContent is how much a compressed file may unpack to: the capacity that
// the descriptor gives the disk, an eighth of it for the format's tables and a
// little. Where the descriptor gives none it is MaxInt64.
func mostContent(env *ovf.Envelope, href string) int64 {
	const little = 64 << 20
	r, err := ovf.Resolve(env, ovf.ResolveOptions{})
	if err != nil {
		return math.MaxInt64 // which is said by whoever needs it resolved
	}
	files := map[string]bool{}
	for _, f := range env.References {
		if f.Href == href {
			files[f.ID] = true
		}
	}
	most := int64(-1)
	for _, d := range env.Disks {
		if !files[d.FileRef] || r.Disks[d.ID] == nil {
			continue
		}
		n := r.Disks[d.ID].Capacity
		if n <= 0 || n > math.MaxInt64/2-little {
			return math.MaxInt64
		}
		most = max(most, n+n/8+little)
	}
	if most < 0 {
		return math.MaxInt64
	}
	return most
}

// Bound gives what a compressed file unpacks to, up to what the disk that is in it
// can be by the descriptor; what is more is appliance.ErrInvalid.
func Bound(env *ovf.Envelope, href string, content io.Reader) io.Reader {
	most := mostContent(env, href)
	return &atMost{content, most, most, href}
}

// overCapacity is the error for a file that unpacks to more than its disk.
func overCapacity(href string, most int64) error {
	return fmt.Errorf("%s: %w: it unpacks to more than %d bytes, and the capacity of its disk is less", href, appliance.ErrInvalid, most)
}

// atMost is content that may not be larger than its disk.
type atMost struct {
	r          io.Reader
	left, most int64
	href       string
}

func (a *atMost) Read(b []byte) (int, error) {
	n, err := a.r.Read(b)
	if a.left -= int64(n); a.left < 0 {
		return 0, overCapacity(a.href, a.most)
	}
	return n, err
}
