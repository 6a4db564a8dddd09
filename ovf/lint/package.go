package lint

import (
	"slices"
	"strings"

	"github.com/ovation-project/ovation/ovf"
)

// Package is what lint needs to know of a package besides the descriptor.
type Package interface {
	// Archive says whether it is an archive, of which all files are known.
	Archive() bool
	// Alone says whether the descriptor was named by itself, and not a
	// folder or an archive.
	Alone() bool
	// Files are the stored files, in their order.
	Files() []File
	// HasManifest says whether there is a manifest.
	HasManifest() bool
	// Disk looks at the header of the disk in a referenced file: the name
	// of its format and its capacity. ok is false where the file cannot be
	// read as a disk at all.
	Disk(href string) (format string, capacity int64, ok bool)
	// FormatOf gives the name of the format that a URI stands for.
	FormatOf(uri string) (name string, ok bool)
	// Size gives the stored size of a referenced file, its chunks together;
	// -1 where it is missing.
	Size(href string) int64
	// Chunks gives the sizes of the stored chunks of a referenced file, nil
	// where it is in one piece or missing.
	Chunks(href string) []int64
	// Header gives the first bytes of a referenced file as it is stored, at
	// most n, nil where it cannot be read.
	Header(href string, n int) []byte
}

// File is a stored file. Known is set for the descriptor, the manifest, the
// certificate, and files that the descriptor refers to.
type File struct {
	Name  string
	Known bool
}

// files judges the package.
func (c *checker) files(p Package) {
	if p.Alone() && c.noFile(p) {
		c.report("OVF-PKG-012", nil, "none of the files that the descriptor refers to is there")
		return
	}
	for _, f := range c.env.References {
		if f.Href == "" {
			continue
		}
		size := p.Size(f.Href)
		switch {
		case size < 0:
			c.report("OVF-PKG-001", f.Element(), "the file %q is not in the package", f.Href)
		case f.Size > 0 && f.Size != size:
			c.report("OVF-PKG-002", f.Element(), "the file %q has %d bytes, and the descriptor says %d", f.Href, size, f.Size)
		}
		if size >= 0 {
			c.stored(p, f)
		}
	}
	if !p.HasManifest() {
		c.report("OVF-PKG-003", nil, "the package has no manifest")
	}
	c.entries(p)
	c.diskFiles(p)
}

// noFile says whether there are Files and none of them is there: then the
// descriptor was most likely taken out of its package to be judged.
func (c *checker) noFile(p Package) bool {
	for _, f := range c.env.References {
		if f.Href != "" && p.Size(f.Href) >= 0 {
			return false
		}
	}
	return len(c.env.References) > 0
}

// stored judges how a file is stored.
func (c *checker) stored(p Package, f *ovf.File) {
	chunks := p.Chunks(f.Href)
	for i, size := range chunks {
		if f.ChunkSize > 0 && (size > f.ChunkSize || size < f.ChunkSize && i < len(chunks)-1) {
			c.report("OVF-PKG-010", f.Element(), "chunk %d of the file %q has %d bytes, and chunks have %d", i, f.Href, size, f.ChunkSize)
			break
		}
	}
	header := p.Header(f.Href, 3)
	if header == nil {
		return
	}
	zipped := string(header) == "\x1f\x8b\x08" // RFC 1952, deflate
	switch {
	case f.Compression == "gzip" && !zipped:
		c.report("OVF-PKG-008", f.Element(), "the file %q is not a gzip file", f.Href)
	case f.Compression != "gzip" && zipped && c.isDisk(f):
		c.report("OVF-PKG-009", f.Element(), "the file %q is a gzip file", f.Href)
	}
}

// isDisk says whether a file is the content of a disk: of others, such as
// archives for the guest, gzip may be the format.
func (c *checker) isDisk(f *ovf.File) bool {
	return f.ID != "" && slices.ContainsFunc(c.env.Disks, func(d *ovf.Disk) bool { return d.FileRef == f.ID })
}

// entries judges which files an archive holds, and in which order.
func (c *checker) entries(p Package) {
	if !p.Archive() {
		return
	}
	order := make(map[string]int, len(c.env.References))
	for i, f := range c.env.References {
		if _, ok := order[f.Href]; !ok {
			order[f.Href] = i
		}
	}
	last := -1
	lastName := ""
	for i, f := range p.Files() {
		if n, ok := order[f.Name]; ok {
			if n < last {
				c.report("OVF-PKG-011", nil, "the file %q comes after %q, and is before it in the References", f.Name, lastName)
			}
			last, lastName = max(n, last), f.Name
		}
		if !f.Known {
			c.report("OVF-PKG-004", nil, "nothing refers to the file %q", f.Name)
		}
		if i == 0 && !strings.HasSuffix(strings.ToLower(f.Name), ".ovf") {
			c.report("OVF-PKG-006", nil, "the first file of the archive is %q", f.Name)
		}
	}
}

// diskFiles compares the headers of disks with what is said of them.
func (c *checker) diskFiles(p Package) {
	hrefs := map[string]string{}
	for _, f := range c.env.References {
		if f.Compression == "" || f.Compression == "identity" {
			hrefs[f.ID] = f.Href
		}
	}
	for _, d := range c.env.Disks {
		href := hrefs[d.FileRef]
		if d.FileRef == "" || href == "" || p.Size(href) < 0 {
			continue
		}
		said, known := p.FormatOf(d.Format)
		format, capacity, ok := p.Disk(href)
		if !known || !ok && said == "raw" {
			continue
		}
		if !ok || format != said {
			c.report("OVF-PKG-005", d.Element(), "disk %q is said to be %s, and the file %q is %s", d.ID, said, href, orNoDisk(format))
			continue
		}
		if want, ok := c.bytesOf(d.Capacity, d.CapacityUnits); ok && said != "raw" && want != capacity {
			c.report("OVF-PKG-007", d.Element(), "disk %q is said to have %d bytes, and the file %q has %d", d.ID, want, href, capacity)
		}
	}
}

func orNoDisk(format string) string {
	if format == "" {
		return "no disk that is known here"
	}
	return format
}
