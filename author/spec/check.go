package spec

import "fmt"

// check judges what the types alone cannot say.
func (d *decoder) check(a *Appliance) {
	if (a.Machine == nil) == (a.Collection == nil) {
		d.fail(Pos{1, 1}, "the specification needs one of the keys machine and collection")
		return
	}
	c := &checker{decoder: d, disks: map[string]bool{}, files: map[string]bool{}, networks: map[string]bool{}, options: map[string]bool{"": true}}
	unique := func(set map[string]bool, id, what string, at Pos) {
		if set[id] {
			d.fail(at, "there are two %s called %q: give each its own", what, id)
		}
		set[id] = true
	}
	for _, x := range a.Networks {
		unique(c.networks, x.Name, "networks", x.Pos)
	}
	for _, x := range a.Files {
		unique(c.files, x.ID, "files", x.Pos)
		if x.Source == "" && x.Name == "" {
			d.fail(x.Pos, "file %q needs a source, or the name of a file beside the specification", x.ID)
		}
	}
	for _, x := range a.Disks {
		unique(c.disks, x.ID, "disks", x.Pos)
		if x.Source == "" && x.Capacity == "" && !c.files[x.FileID] {
			d.fail(x.Pos, "disk %q needs a source, or the capacity of an empty disk, such as 20GiB", x.ID)
		}
	}
	for _, x := range a.Disks {
		if x.Parent != "" {
			c.known(c.disks, x.Parent, "disk", x.Pos)
		}
	}
	defaults := 0
	for _, x := range a.Options {
		unique(c.options, x.ID, "options", x.Pos)
		if x.Default {
			if defaults++; defaults == 2 {
				d.fail(x.Pos, "option %q is a second default: one can be", x.ID)
			}
		}
	}
	ids := map[string]bool{}
	a.Walk(func(x *Content, collection bool) {
		unique(ids, x.ID, "machines or collections", x.Pos)
		if !collection && len(x.Contents) > 0 {
			d.fail(x.Pos, "machine %q has contents: only a collection has; write collection for machine", x.ID)
		}
		if !collection && len(x.ScaleOut) > 0 {
			d.fail(x.Pos, "machine %q has scaleOut: only a collection has; put the machine into one", x.ID)
		}
		for _, m := range x.Contents {
			if (m.Machine == nil) == (m.Collection == nil) {
				d.fail(m.Pos, "a member of contents is either a machine or a collection")
			}
		}
		c.content(x)
	})
}

type checker struct {
	*decoder
	disks, files, networks, options map[string]bool
}

func (c *checker) known(set map[string]bool, id, what string, at Pos) {
	if set[id] {
		return
	}
	var have []string
	for k := range set {
		if k != "" {
			have = append(have, k)
		}
	}
	hint := didYouMean(id, have)
	if hint == "" {
		hint = fmt.Sprintf("; add it to the key %ss", what)
	}
	c.fail(at, "there is no %s %q%s", what, id, hint)
}

func (c *checker) optionsExist(ids []string, at Pos) {
	for _, id := range ids {
		c.known(c.options, id, "option", at)
	}
}

// memory sees that nobody has written a number of MiB without its unit.
func (c *checker) memory(n Size, at Pos) {
	if n > 0 && n < 1<<20 {
		c.fail(at, "%d bytes of memory are less than any machine has: give a unit, such as %dMiB", n, n)
	}
}

func (c *checker) content(x *Content) {
	for _, h := range x.Hardware {
		c.memory(h.Memory, h.Pos)
		for _, s := range h.Per {
			c.memory(s.Memory, s.Pos)
			c.known(c.options, s.Option, "option", s.Pos)
		}
		for _, drives := range [][]Drive{h.Disks, h.CDROMs, h.Floppies} {
			for _, v := range drives {
				if v.Disk != "" && v.File != "" {
					c.fail(v.Pos, "a drive holds either a disk or a file")
				}
				if v.Disk != "" {
					c.known(c.disks, v.Disk, "disk", v.Pos)
				}
				if v.File != "" {
					c.known(c.files, v.File, "file", v.Pos)
				}
				c.optionsExist(v.Options, v.Pos)
			}
		}
		for _, v := range h.Cards {
			c.known(c.networks, v.Network, "network", v.Pos)
			c.optionsExist(v.Options, v.Pos)
		}
		for _, v := range h.Devices {
			if _, ok := DeviceType(v.Type); !ok {
				c.fail(v.Pos, "unknown type of device %q%s", short(v.Type), didYouMean(v.Type, DeviceTypes()))
			}
		}
	}
}
