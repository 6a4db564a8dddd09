package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf/ovfenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// shopSpec is a collection in a collection. In its tier db starts first, and api
// when db's guest says that it is ready; then comes web, when api's does; tool is
// not started. db and api share a disk. web has a disk that is a delta of
// another.
const shopSpec = `
version: 2.1
name: shop
networks: [{name: LAN}]
disks:
  - {id: two, source: TWO, format: streamOptimized}
  - {id: webdisk, source: ONE, format: streamOptimized}
  - {id: tooldisk, source: ONE, format: streamOptimized}
  - {id: quorum, source: DATA, format: raw, shared: true}
collection:
  id: shop
  products:
    - {product: Shop, version: "1.0", properties: [{key: site, default: test, userConfigurable: true}]}
  startup:
    items:
      - {id: tier, order: 1, waitingForGuest: true}
      - {id: web, order: 2, stopAction: guestShutdown}
      - {id: tool, order: 3, startAction: none}
  contents:
    - machine:
        id: web
        products: [{properties: [{key: hostname, userConfigurable: true}, {key: secret, password: true, userConfigurable: true}]}]
        hardware:
          transport: iso
          cpus: 2
          coresPerSocket: 2
          memory: 256MiB
          disks: [{disk: webdisk, controller: sata}]
          cdroms: [{controller: ide}]
          cards: [{network: LAN, model: VmxNet3, mac: "00:50:56:00:00:51"}]
    - machine:
        id: tool
        hardware: {cpus: 1, memory: 256MiB, disks: [{disk: tooldisk, controller: sata}]}
    - collection:
        id: tier
        startup:
          items:
            - {id: db, order: 1, waitingForGuest: true, stopAction: guestShutdown}
            - {id: api, order: 2, stopAction: guestShutdown}
        contents:
          - machine:
              id: db
              hardware: {transport: iso, cpus: 1, memory: 256MiB, disks: [{disk: two, controller: ide}, {disk: quorum, controller: sata}]}
          - machine:
              id: api
              hardware: {transport: iso, cpus: 1, memory: 256MiB, disks: [{disk: two, controller: ide}, {disk: quorum, controller: sata}]}
`

// TestWholeAppliance deploys several machines in nested collections, which start
// in their order as their guests' own clocks say, are told their properties, share
// a disk, stop in the reverse of the order, and go without a trace.
func TestWholeAppliance(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	h := startLibvirt(t)
	two := build(t, appliance.Spec{Linger: 900, Controller: "ide", Disks: []appliance.Disk{data(51, "ahci")}})
	one := build(t, appliance.Spec{Linger: 900, Controller: "ahci", NICs: []appliance.NIC{{Model: "VmxNet3"}}})
	u := newUser(t)
	u.write("shop.yaml", []byte(strings.NewReplacer("TWO", two.Disks[0].Raw, "ONE", one.Disks[0].Raw, "DATA", two.Disks[1].Raw).Replace(shopSpec)))
	u.succeed("build", "shop.yaml", "-o", "shop.ova")
	empty := h.account()

	values := u.write("values", []byte("hostname=www\nsecret=hunter2\nsite=north\n"))
	args := []string{"shop.ova", "--to", h.URI, "--properties-file", values}
	shown := u.planned(args...)
	r := u.succeed(append([]string{"deploy", "--start", "--wait", "--ready", "web=agent"}, args...)...)
	if strings.Contains(r.stdout+r.stderr, "hunter2") {
		t.Errorf("a password is in what is said:\n%s%s", r.stdout, r.stderr)
	}
	for _, name := range []string{"shop-web", "shop-tool", "shop-db", "shop-api"} {
		h.validXML(name)
	}
	if n := len(slices.DeleteFunc(slices.Clone(shown.Volumes), func(v plan.Volume) bool { return len(v.Uses) < 2 })); n != 1 {
		t.Errorf("%d volumes are shared", n)
	}
	s := u.ps("shop")
	states := map[string]string{}
	for _, m := range s.Deployments[0].Machines {
		states[m.Name] = m.State
	}
	want := map[string]string{"shop-db": "running", "shop-api": "running", "shop-web": "running", "shop-tool": "off"}
	if d := cmp.Diff(want, states); d != "" {
		t.Error(d)
	}

	// The order is in the guests' own reports: each began when the one before
	// had said that it is ready.
	reports := map[string]*appliance.Report{}
	for _, id := range []string{"db", "api", "web"} {
		said := u.succeed("logs", "shop-"+id).stdout
		report, err := appliance.ParseReport(strings.NewReader(said))
		if err != nil {
			t.Fatalf("%s: %v\n%s", id, err, tail(said))
		}
		reports[id] = report
	}
	for _, pair := range [][2]string{{"db", "api"}, {"api", "web"}} {
		first, second := reports[pair[0]], reports[pair[1]]
		if first.Began == 0 || first.Ended > second.Began {
			t.Errorf("%s was ready at %d, and %s began at %d", pair[0], first.Ended, pair[1], second.Began)
		}
	}
	// Both see the disk that they share, and web its own.
	quorum := fmt.Sprint("ahci ", two.Disks[1].Capacity, " ", two.Disks[1].SHA256)
	for _, id := range []string{"db", "api"} {
		var disks []string
		for _, d := range reports[id].Disks {
			disks = append(disks, fmt.Sprint(d.Driver, " ", d.Size, " ", d.SHA256))
		}
		if !slices.Contains(disks, quorum) || len(disks) != 2 {
			t.Errorf("%s has the disks %q", id, disks)
		}
	}
	web := reports["web"]
	if web.CPUs != 2 || web.Sockets != 1 || web.Cores != 2 || len(web.NICs) != 1 || web.NICs[0].MAC != "00:50:56:00:00:51" {
		t.Errorf("web has %d CPUs, %d sockets, the cards %+v", web.CPUs, web.Sockets, web.NICs)
	}
	// What they are told: their own properties and those of the collection that
	// they are in themselves, and who else is in it.
	checkEnvironment(t, reports["web"], "web", map[string]string{"hostname": "www", "secret": "hunter2", "site": "north"}, "tool", "tier")
	checkEnvironment(t, reports["db"], "db", map[string]string{}, "api")

	// tool starts when it is named; the guests are told anew at each start.
	u.succeed("start", "shop-tool")
	u.succeed("stop", "shop-tool", "--force")

	// Stopping is the other way round, and asks the guests.
	r = u.succeed("stop", "shop", "--json")
	var stopped struct {
		Events []struct{ Machine, Event string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &stopped); err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, e := range stopped.Events {
		if e.Event != "already" {
			events = append(events, strings.TrimPrefix(e.Machine, "shop-")+" "+e.Event)
		}
	}
	if d := cmp.Diff([]string{"web asked", "web ended", "api asked", "api ended", "db asked", "db ended"}, events); d != "" {
		t.Error(d)
	}

	u.succeed("rm", "shop")
	if d := cmp.Diff(empty, h.account()); d != "" {
		t.Errorf("the host had, has:\n%s", d)
	}
	if left := u.stateLeft(); len(left) > 0 {
		t.Errorf("left here: %q", left)
	}
	u.onlyLeft("shop.ova", "shop.yaml", filepath.Base(values))
}

// checkEnvironment compares what a guest was told.
func checkEnvironment(t *testing.T, r *appliance.Report, id string, want map[string]string, others ...string) {
	t.Helper()
	env, err := ovfenv.Parse(r.Environment)
	if err != nil {
		t.Errorf("%s: %v", id, err)
		return
	}
	got := map[string]string{}
	for _, p := range env.Properties {
		got[p.Key] = p.Value
	}
	if d := cmp.Diff(want, got); d != "" || env.ID != id {
		t.Errorf("%s is told %s:\n%s", id, env.ID, d)
	}
	for _, other := range others {
		if !slices.ContainsFunc(env.Entities, func(e ovfenv.Entity) bool { return e.ID == other }) {
			t.Errorf("%s is not told of %s: %+v", id, other, env.Entities)
		}
	}
}
