package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
)

// Limit is how many controllers there can be of a kind.
type Limit struct {
	Type ovf.ResourceType
	// Models are those that it is for; none is all of the type.
	Models []string
	// Controllers is how many there can be, Units how many drives each takes,
	// and Skip the place that is its own, -1 for none.
	Controllers, Units, Skip int
}

func (l *Limit) is(d *spec.Device) bool {
	typ, _ := spec.DeviceType(d.Type)
	if typ != l.Type || d.Bound != "" {
		return false
	}
	if len(l.Models) == 0 {
		return true
	}
	return slices.ContainsFunc(l.Models, func(m string) bool {
		return len(d.SubTypes) > 0 && strings.EqualFold(m, d.SubTypes[0])
	})
}

// choose leaves one deployment option where several are not read.
func (x *applier) choose(a *spec.Appliance) error {
	if !x.p.Flat && x.p.Option == "" {
		return nil
	}
	option := cmp.Or(x.p.Option, a.DefaultOption())
	if option == "" {
		return nil
	}
	i := slices.IndexFunc(a.Options, func(o spec.Option) bool { return o.ID == option })
	if i < 0 {
		var have []string
		for _, o := range a.Options {
			have = append(have, o.ID)
		}
		return fmt.Errorf("there is no deployment option %q: there are %s", option, cmp.Or(strings.Join(have, ", "), "none"))
	}
	if len(a.Options) > 1 {
		x.note("of the deployment options, %s is taken, and the others are left out", option)
	}
	options, info := a.Options, a.Infos.Options
	a.Choose(option)
	raw := slices.Clone(a.XML)
	a.Walk(func(c *spec.Content, _ bool) { raw = append(raw, c.XML...) })
	if slices.ContainsFunc(raw, func(r spec.RawXML) bool { return strings.Contains(r.Text, "configuration=") }) {
		a.Options, a.Infos.Options = options, info // what has no keys goes on to refer to them
	}
	return nil
}

// names gives disks IDs and files names that the importer reads.
func (x *applier) names(a *spec.Appliance) {
	if !x.p.SafeNames {
		return
	}
	ids, files := map[string]bool{}, map[string]bool{}
	for i := range a.Disks {
		ids[a.Disks[i].ID], files[a.Disks[i].File] = true, true
	}
	renamed := map[string]string{}
	for i := range a.Disks {
		d := &a.Disks[i]
		if id := safe(d.ID, ids); id != d.ID {
			x.note("disk %s is %s now: the importer reads no other letters", d.ID, id)
			renamed[d.ID], d.ID = id, id
		}
		if d.Source != "" { // the file is the disk's own
			d.File = safe(d.File, files)
			d.FileID = safe(d.FileID, map[string]bool{})
		}
	}
	to := func(id *string) {
		if new, ok := renamed[*id]; ok {
			*id = new
		}
	}
	for i := range a.Disks {
		to(&a.Disks[i].Parent)
	}
	a.Walk(func(c *spec.Content, _ bool) {
		for i := range c.Hardware {
			h := &c.Hardware[i]
			for j := range h.Devices {
				to(&h.Devices[j].Disk)
			}
			for j := range h.Disks {
				to(&h.Disks[j].Disk)
			}
		}
	})
}

// safe gives a name of safe letters. One that is another than it was is none of
// those that are taken, and becomes one of them.
func safe(name string, taken map[string]bool) string {
	plain := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("-._", r) {
			return r
		}
		return '-'
	}, name)
	if plain == name {
		return name
	}
	free := plain
	for n := 2; taken[free]; n++ {
		free = strconv.Itoa(n) + plain
	}
	taken[free] = true
	return free
}

// capacity writes a disk's capacity in units that are read.
func (x *applier) capacity(d *spec.Disk) {
	if d.Units == "" || !x.p.CapacityUnits && !wild(d.Units) {
		return // see descriptor.Options.CapacityUnits
	}
	u, err := ovf.ParseUnit(d.Units)
	if err != nil {
		return
	}
	if n, err := u.Quantity(d.Capacity); err == nil {
		d.Capacity, d.Units = descriptor.CapacityInUnits(n)
	}
}

// importable shapes hardware for importers that know less of OVF than the
// standard has.
func (x *applier) importable(c *spec.Content, h *spec.Hardware) error {
	if x.p.Flat {
		h.Devices = slices.DeleteFunc(h.Devices, func(d spec.Device) bool { return d.Bound == "min" || d.Bound == "max" })
	}
	if x.p.Known != nil {
		h.Devices = slices.DeleteFunc(h.Devices, func(d spec.Device) bool { return x.refused(c, &d) })
	}
	no := false
	for i := range h.Devices {
		d := &h.Devices[i]
		typ, _ := spec.DeviceType(d.Type)
		if typ == ovf.Memory && (x.p.MemoryUnits || wild(d.Units)) {
			if err := inMiB(d); err != nil {
				return fmt.Errorf("%s: memory: %w", c.ID, err)
			}
		}
		if x.p.Known != nil && typ == ovf.DVDDrive {
			d.Type, typ = spec.DeviceTypeName(ovf.CDDrive), ovf.CDDrive
		}
		if x.p.Known != nil && !slices.Contains(x.p.Known, typ) && (d.Required == nil || *d.Required) {
			x.note("%s: device %s (%s) is optional now: the importer does not know it", c.ID, d.ID, d.Type)
			d.Required = &no
		}
	}
	for i := range x.p.Limits {
		if err := x.limit(c, h, &x.p.Limits[i]); err != nil {
			return err
		}
	}
	return nil
}

// refused says whether a device would have the package refused, however optional
// it is: a drive with nothing in it, or a controller that has no name there.
func (x *applier) refused(c *spec.Content, d *spec.Device) bool {
	typ, _ := spec.DeviceType(d.Type)
	switch {
	case typ == ovf.DiskDrive && d.Disk == "" && len(d.Host) == 0:
		x.note("%s: disk drive %s, which holds no disk, is left out", c.ID, d.ID)
		return true
	case typ == ovf.OtherStorage && !slices.ContainsFunc(x.p.Limits, func(l Limit) bool { return l.is(d) }):
		x.note("%s: controller %s (%s) is left out: the importer does not know it", c.ID, d.ID, strings.Join(d.SubTypes, " "))
		return true
	}
	return false
}

// wild says whether a unit is understood and not of the standard, such as
// MegaBytes: it makes imports fail.
func wild(units string) bool {
	u, err := ovf.ParseUnit(units)
	return err == nil && !u.Standard
}

// inMiB writes memory in MiB.
func inMiB(d *spec.Device) error {
	if strings.HasPrefix(d.Quantity, "$") || d.Quantity == "" {
		return nil
	}
	u, err := ovf.ParseUnit(d.Units)
	if err != nil {
		return err
	}
	n, err := u.Quantity(d.Quantity)
	if err != nil {
		return err
	}
	const mib = 1 << 20
	if d.Reservation != "" || d.Limit != "" {
		for _, s := range []*string{&d.Reservation, &d.Limit} {
			if *s == "" {
				continue
			}
			v, err := u.Quantity(*s)
			if err != nil {
				return err
			}
			*s = strconv.FormatInt(v/mib, 10)
		}
	}
	d.Quantity, d.Units = strconv.FormatInt((n+mib-1)/mib, 10), "byte * 2^20"
	return nil
}

// limit brings the drives of controllers that are too many to the first ones,
// and gives drives without a place one.
func (x *applier) limit(c *spec.Content, h *spec.Hardware, l *Limit) error {
	kept := map[string]map[int]bool{} // places that are taken, by controller
	var order []string
	gone := map[string]bool{}
	for i := range h.Devices {
		d := &h.Devices[i]
		switch {
		case !l.is(d):
		case len(order) < l.Controllers:
			order = append(order, d.ID)
			kept[d.ID] = map[int]bool{l.Skip: true}
		default:
			gone[d.ID] = true
		}
	}
	var homeless []*spec.Device
	for i := range h.Devices {
		d := &h.Devices[i]
		taken, ok := kept[d.Parent]
		if !ok {
			if gone[d.Parent] {
				homeless = append(homeless, d)
			}
			continue
		}
		slot, err := strconv.Atoi(d.Slot)
		if err != nil || slot < 0 || slot >= l.Units || taken[slot] {
			homeless = append(homeless, d)
			continue
		}
		taken[slot] = true
	}
	for _, d := range homeless {
		if !x.place(d, order, kept, l.Units) {
			return fmt.Errorf("%s: there are more drives than the %d controllers that the importer reads take, of %d drives each: take some away, or put them on another kind of controller", c.ID, l.Controllers, l.Units)
		}
	}
	if len(gone) > 0 {
		x.note("%s: drives of several controllers are on controller %s now: the importer reads no more of a kind", c.ID, strings.Join(order, ", "))
		h.Devices = slices.DeleteFunc(h.Devices, func(d spec.Device) bool { return gone[d.ID] && l.is(&d) })
	}
	return nil
}

// place gives a drive a place that is free.
func (x *applier) place(d *spec.Device, controllers []string, taken map[string]map[int]bool, units int) bool {
	for _, id := range controllers {
		for slot := range units {
			if !taken[id][slot] {
				taken[id][slot] = true
				d.Parent, d.Slot = id, strconv.Itoa(slot)
				return true
			}
		}
	}
	return false
}
