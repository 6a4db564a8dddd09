package vsphere

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// TestStorageCluster has a storage cluster's name stand for the one of its
// datastores that has the most room.
func TestStorageCluster(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{Model: func(m *simulator.Model) { m.Datastore, m.Pod = 3, 1 }})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	pools, err := h.Pools(t.Context())
	check(t, err)
	if len(pools) != 3 { // the storage cluster is empty
		t.Fatalf("%+v", pools)
	}
	finder := find.NewFinder(h.client)
	pod, err := finder.Folder(t.Context(), "/DC0/datastore/DC0_POD0")
	check(t, err)
	var members []types.ManagedObjectReference
	for _, name := range []string{"LocalDS_1", "LocalDS_2"} {
		d, err := finder.Datastore(t.Context(), "/DC0/datastore/"+name)
		check(t, err)
		members = append(members, d.Reference())
	}
	task, err := object.NewFolder(h.client, pod.Reference()).MoveInto(t.Context(), members)
	check(t, err)
	check(t, task.Wait(t.Context()))

	pools, err = h.Pools(t.Context())
	check(t, err)
	want := ""
	for _, p := range pools[:3] {
		if p.Name != "LocalDS_0" && want == "" {
			want = p.Name // they are in the order of their room
		}
	}
	if len(pools) != 4 || pools[3].Name != "DC0_POD0" {
		t.Fatalf("%+v", pools)
	}
	to := spec("web", "disk1.vmdk")
	to.Storage = "DC0_POD0"
	i, err := h.PrepareImport(t.Context(), to)
	check(t, err)
	if got := i.Plan().Placement.Storage; got != want {
		t.Errorf("%s is taken, and %s has the most room", got, want)
	}
	check(t, i.Run(t.Context(), opener, hypervisor.ImportOptions{Parallel: 1}))
	if _, err := h.Lookup(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	to.Storage = "DC0_POD1"
	if _, err := h.PrepareImport(t.Context(), to); !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), "DC0_POD0") {
		t.Errorf("a storage cluster that is not there: %v", err)
	}
}
