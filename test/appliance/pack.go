package appliance

import (
	"context"
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// controller is how a descriptor names a storage controller.
type controller struct {
	name    string
	typ     int    // rasd:ResourceType
	subType string // rasd:ResourceSubType
	units   int    // drives that one takes
}

var controllers = map[string]controller{
	"ide":         {"IDE Controller", 5, "", 2},
	"ahci":        {"SATA Controller", 20, "vmware.sata.ahci", 30},
	"lsilogic":    {"SCSI Controller", 6, "lsilogic", 15},
	"lsisas":      {"SCSI Controller", 6, "lsilogicsas", 15},
	"pvscsi":      {"SCSI Controller", 6, "VirtualSCSI", 15},
	"virtio-scsi": {"SCSI Controller", 6, "VirtioSCSI", 15},
	"virtio-blk":  {"VirtIO block device", 20, "virtio-blk", 15},
	"nvme":        {"NVMe Controller", 20, "vmware.nvme.controller", 15},
}

// Controllers are the names that Spec.Controller and Disk.Controller take.
func Controllers() []string { return slices.Sorted(maps.Keys(controllers)) }

// pack writes the package's files below dir/files, and the same as an OVA.
func pack(ctx context.Context, dir string, spec Spec, disks []PackagedDisk) error {
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	for _, d := range disks {
		if err := run(ctx, files, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", d.Raw, d.File); err != nil {
			return err
		}
	}
	descriptor := spec.Name + ".ovf"
	if err := writeDescriptor(files, descriptor, spec, disks); err != nil {
		return err
	}
	// The descriptor is the first entry of an OVA, the manifest the second.
	names := []string{descriptor}
	for _, d := range disks {
		names = append(names, d.File)
	}
	if spec.Digest != "none" {
		manifest := spec.Name + ".mf"
		args := append([]string{"dgst", "-" + strings.ToLower(spec.Digest)}, names...)
		text, err := pipe(ctx, files, nil, "openssl", args...)
		if err != nil {
			return err
		}
		// OpenSSL 3 writes SHA2-256; what OVF knows is SHA256.
		plain := strings.ReplaceAll(string(text), "SHA2-", "SHA")
		if err := os.WriteFile(filepath.Join(files, manifest), []byte(plain), 0o644); err != nil {
			return err
		}
		names = slices.Insert(names, 1, manifest)
	}
	return run(ctx, files, "tar", append([]string{"--format=ustar", "--owner=0", "--group=0", "--numeric-owner",
		"-cf", filepath.Join(dir, spec.Name+".ova")}, names...)...)
}

// What the template is given.
type (
	placedController struct {
		Name, SubType     string
		ID, Type, Address int
	}
	placedDisk struct {
		File, FileID, DiskID string
		Size, Capacity       int64
		place
	}
	place struct{ ID, Parent, Unit int }
	nicAt struct {
		NIC
		ID, Unit int
	}
	hardware struct {
		Spec
		Controllers []placedController
		Disks       []placedDisk
		CDROM       *place
		NICs        []nicAt
	}
)

// writeDescriptor fills in the template.
func writeDescriptor(dir, name string, spec Spec, disks []PackagedDisk) error {
	h := hardware{Spec: spec}
	// last is the controller of each kind that still takes drives.
	type open struct{ id, used, count int }
	last := map[string]*open{}
	nextID := 3
	put := func(kind string) (place, error) {
		c, ok := controllers[kind]
		if !ok {
			return place{}, fmt.Errorf("controller %q is none of %v", kind, Controllers())
		}
		o := last[kind]
		if o == nil {
			o = &open{used: c.units}
			last[kind] = o
		}
		if o.used == c.units {
			h.Controllers = append(h.Controllers, placedController{Name: fmt.Sprintf("%s %d", c.name, o.count), SubType: c.subType, Type: c.typ, ID: nextID, Address: o.count})
			o.id, o.used = nextID, 0
			o.count++
			nextID++
		}
		p := place{Parent: o.id, Unit: o.used}
		o.used++
		return p, nil
	}
	for i, d := range disks {
		kind := spec.Controller
		if i > 0 {
			kind = spec.Disks[i-1].Controller
		}
		p, err := put(kind)
		if err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(dir, d.File))
		if err != nil {
			return err
		}
		h.Disks = append(h.Disks, placedDisk{
			File: d.File, FileID: fmt.Sprintf("file%d", i+1), DiskID: fmt.Sprintf("vmdisk%d", i+1),
			Size: info.Size(), Capacity: d.Capacity, place: p,
		})
	}
	if spec.CDROM || len(spec.Properties) > 0 {
		p, err := put("ide")
		if err != nil {
			return err
		}
		h.CDROM = &p
	}
	for i := range h.Disks {
		h.Disks[i].ID = nextID
		nextID++
	}
	if h.CDROM != nil {
		h.CDROM.ID = nextID
		nextID++
	}
	for i, n := range spec.NICs {
		h.NICs = append(h.NICs, nicAt{NIC: n, ID: nextID, Unit: 7 + i})
		nextID++
	}

	text, err := sources.ReadFile("descriptor.ovf.tmpl")
	if err != nil {
		return err
	}
	tmpl, err := template.New(name).Parse(string(text))
	if err != nil {
		return err
	}
	var out strings.Builder
	if err := tmpl.Execute(&out, escaped(h)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(out.String()), 0o644)
}

// escaped gives the same with every text fit for XML.
func escaped(h hardware) hardware {
	esc := func(s string) string {
		var b strings.Builder
		_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
		return b.String()
	}
	h.Name, h.Firmware, h.EULA = esc(h.Name), esc(h.Firmware), esc(h.EULA)
	h.Properties = slices.Clone(h.Properties)
	for i, p := range h.Properties {
		h.Properties[i] = Property{Key: esc(p.Key), Value: esc(p.Value), Password: p.Password}
	}
	for i := range h.Disks {
		h.Disks[i].File = esc(h.Disks[i].File)
	}
	return h
}
