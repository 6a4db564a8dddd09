package build_test

import (
	"context"
	"crypto"
	"path/filepath"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/profile"
)

// imported is a machine of all that vSphere's import looks at.
const imported = `
name: imported
networks: [VM Network]
disks:
  - {id: system, source: system.raw}
  - {id: second, source: system.raw}
files:
  - {id: tools, source: tools.iso}
machine:
  id: imported
  os: {id: 96, vmware: debian12_64Guest}
  hardware:
    cpus: 3
    memory: 2GiB
    disks: [system, second]
    cdroms: [{file: tools}]
    cards: [{network: VM Network, model: [VmxNet3, E1000]}]
  products:
    - product: Imported
      version: "1.2"
      properties: [{key: hostname, userConfigurable: true, default: a, label: Host name}]
`

// TestVSphere has govmomi import what is built, by its own reader of packages
// and into its simulator, with the manifest read, and where the
// simulator can, verified, as govc import.ova does.
func TestVSphere(t *testing.T) {
	for _, name := range []string{"vsphere", "esxi-6.7"} {
		for _, into := range []string{"x.ova", "x"} {
			t.Run(name+" "+into, func(t *testing.T) {
				dir := folder(t)
				p, err := profile.Find(name)
				check(t, err)
				a := parse(t, imported)
				_, err = p.Apply(a)
				check(t, err)
				output := filepath.Join(dir, into)
				run(t, a, dir, output, build.Options{Format: p.Format, Hash: p.Hash, Style: p.Style, Descriptor: descriptor.Options{Models: &p.Models}})
				simulator.Test(func(ctx context.Context, c *vim25.Client) { importInto(ctx, t, c, output, p.Hash) })
			})
		}
	}
}

func importInto(ctx context.Context, t *testing.T, c *vim25.Client, output string, hash crypto.Hash) {
	f := find.NewFinder(c)
	dc, err := f.DefaultDatacenter(ctx)
	check(t, err)
	f.SetDatacenter(dc)
	folders, err := dc.Folders(ctx)
	check(t, err)
	pool, err := f.ResourcePool(ctx, "DC0_H0/Resources")
	check(t, err)
	ds, err := f.DefaultDatastore(ctx)
	check(t, err)
	host, err := f.HostSystem(ctx, "DC0_H0")
	check(t, err)
	i := importer.Importer{
		Log:    func(s string) (int, error) { t.Log(s); return len(s), nil },
		Client: c, Finder: f, Datacenter: dc, Datastore: ds, ResourcePool: pool, Host: host, Folder: folders.VmFolder,
		// The simulator knows what was uploaded by SHA-1 only.
		VerifyManifest: hash == crypto.SHA1,
	}
	descriptor := "imported.ovf"
	i.Archive = &importer.TapeArchive{Path: output, Opener: importer.Opener{Client: c}}
	if filepath.Ext(output) != ".ova" {
		descriptor = filepath.Join(output, descriptor)
		i.Archive = &importer.FileArchive{Path: descriptor, Opener: importer.Opener{Client: c}}
	}
	check(t, i.ReadManifest(descriptor))
	for _, name := range []string{"imported.ovf", "imported-system.vmdk", "imported-second.vmdk", "tools.iso"} {
		if sum := i.Manifest[name]; sum == nil || sum.Algorithm != manifest.Name(hash) || len(sum.Checksum) != 2*hash.Size() {
			t.Errorf("govmomi reads the digest of %s as %+v", name, sum)
		}
	}
	ref, err := i.Import(ctx, descriptor, importer.Options{})
	check(t, err)
	var vm mo.VirtualMachine
	check(t, property.DefaultCollector(c).RetrieveOne(ctx, *ref, []string{"config"}, &vm))
	h := vm.Config.Hardware
	devices := object.VirtualDeviceList(h.Device)
	disks, cards, cds := devices.SelectByType((*types.VirtualDisk)(nil)), devices.SelectByType((*types.VirtualVmxnet3)(nil)), devices.SelectByType((*types.VirtualCdrom)(nil))
	if h.NumCPU != 3 || h.MemoryMB != 2048 || len(disks) != 2 || len(cards) != 1 || len(cds) != 1 || vm.Config.GuestId != "debian12_64Guest" {
		t.Errorf("%d processors, %d MB, %d disks, %d cards, %d CDs, guest %s", h.NumCPU, h.MemoryMB, len(disks), len(cards), len(cds), vm.Config.GuestId)
	}
	v := vm.Config.VAppConfig.GetVmConfigInfo()
	if len(v.Property) != 1 || v.Property[0].Id != "hostname" || v.Property[0].DefaultValue != "a" || v.Product[0].Version != "1.2" {
		t.Errorf("vApp %+v", v)
	}
}
