package lint

import (
	"strings"
)

// Package is what lint needs to know of a package besides the descriptor.
type Package interface {
	// Archive says whether it is an archive, of which all files are known.
	Archive() bool
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
}

// File is a stored file. Known is set for the descriptor, the manifest, the
// certificate, and files that the descriptor refers to.
type File struct {
	Name  string
	Known bool
}

// files judges the package.
func (c *checker) files(p Package) {
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
	}
	if !p.HasManifest() {
		c.report("OVF-PKG-003", nil, "the package has no manifest")
	}
	for i, f := range p.Files() {
		if p.Archive() && !f.Known {
			c.report("OVF-PKG-004", nil, "nothing refers to the file %q", f.Name)
		}
		if p.Archive() && i == 0 && !strings.HasSuffix(strings.ToLower(f.Name), ".ovf") {
			c.report("OVF-PKG-006", nil, "the first file of the archive is %q", f.Name)
		}
	}
	c.diskFiles(p)
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
