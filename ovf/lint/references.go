package lint

import (
	"math"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

func (c *checker) references() {
	ids, hrefs := c.unique("OVF-REF-003", "ID"), c.unique("OVF-REF-009", "href")
	used := c.usedFiles()
	if refs := c.child(c.doc.Tree().Root(), "References"); refs != nil {
		for _, e := range refs.Children {
			if e.Local == "File" && c.own(e.Space) {
				c.unknownIn(e)
			} else {
				c.foreign(e, "References")
			}
		}
	}
	for _, f := range c.env.References {
		e := f.Element()
		if f.ID == "" {
			c.report("OVF-REF-001", e, "the File %q has no ID", f.Href)
		}
		ids(f.ID, e)
		if f.Href == "" {
			c.report("OVF-REF-002", e, "the File %q has no href", f.ID)
		} else {
			hrefs(f.Href, e)
			c.href(f)
		}
		if v, at, ok := c.attr(e, "size"); ok {
			c.size(f, v, at)
		} else if c.env.Version == ovf.V09 {
			c.report("OVF-REF-013", e, "File %q has no size", f.ID)
		}
		if v, at, ok := c.attr(e, "compression"); ok {
			switch {
			case v == "identity" && c.env.Version == ovf.V09:
				c.reportAt("OVF-REF-011", at, "File %q: compression %q", f.ID, v)
			case v != "gzip" && v != "identity" && v != "":
				c.reportAt("OVF-REF-006", at, "File %q: compression %q is not known", f.ID, v)
			}
		}
		if v, at, ok := c.attr(e, "chunkSize"); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err != nil || n <= 0 {
				c.reportAt("OVF-REF-007", at, "File %q: chunkSize %q", f.ID, v)
			}
		}
		// Chunk digests (docs/chunks.md) are used by no element: they are for
		// whoever reads the files.
		if f.ID != "" && !used[f.ID] && !strings.HasSuffix(f.Href, ".chunks") {
			c.report("OVF-REF-010", e, "File %q is not used", f.ID)
		}
	}
}

func (c *checker) href(f *ovf.File) {
	_, at, _ := c.attr(f.Element(), "href")
	u, err := url.Parse(f.Href)
	switch {
	case err != nil && strings.ContainsAny(f.Href, "%"):
		c.reportAt("OVF-REF-012", at, "File %q: href %q is no URI", f.ID, f.Href)
	case err == nil && (u.Scheme != "" || u.Host != ""):
		c.reportAt("OVF-REF-008", at, "File %q is elsewhere: %s", f.ID, f.Href)
	case path.IsAbs(f.Href) || strings.HasPrefix(path.Clean(f.Href), ".."):
		c.reportAt("OVF-REF-008", at, "File %q lies outside of the descriptor's folder: %s", f.ID, f.Href)
	}
}

// size judges ovf:size. Products that do not know a size have been seen to write
// -1 or -2; other negative numbers are overflows.
func (c *checker) size(f *ovf.File, v string, at int) {
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		if n > math.MaxInt64 {
			c.reportAt("OVF-REF-014", at, "File %q: no file can have the size %s", f.ID, v)
		}
		return
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= -2 {
		c.reportAt("OVF-REF-005", at, "File %q: size %s is negative", f.ID, v)
		return
	}
	if key, ok := ovf.Reference(v); ok && key != "" {
		return
	}
	c.reportAt("OVF-REF-004", at, "File %q: size %q is no number of bytes", f.ID, v)
}

// usedFiles finds the IDs of files that something refers to.
func (c *checker) usedFiles() map[string]bool {
	used := map[string]bool{}
	c.doc.Tree().Root().Walk(func(e *xmldoc.Element) bool {
		for i := range e.Attrs {
			if e.Attrs[i].Local == "fileRef" {
				used[e.Attrs[i].Value] = true
			}
		}
		if e.Local == "HostResource" {
			if kind, id, ok := hostResource(e.Text()); ok && kind == "file" {
				used[id] = true
			}
		}
		return true
	})
	return used
}

// hostResource reads ovf:/disk/ID and its variants.
func hostResource(s string) (kind, id string, ok bool) {
	s = strings.TrimSpace(s)
	if len(s) >= 4 && strings.EqualFold(s[:4], "ovf:") {
		s = s[4:]
	}
	s = strings.TrimLeft(s, "/")
	kind, id, ok = strings.Cut(s, "/")
	return kind, id, ok && (kind == "disk" || kind == "file") && id != ""
}
