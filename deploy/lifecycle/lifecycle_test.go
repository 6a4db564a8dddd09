package lifecycle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/ovfenv"
)

// shop is a collection in a collection: db, then api, which is waited for, then
// web; tool only by hand.
const shop = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
  <DiskSection><Info/><Disk ovf:diskId="data" ovf:capacity="1048576"/><Disk ovf:diskId="both" ovf:capacity="1048576"/></DiskSection>
  <NetworkSection><Info/><Network ovf:name="LAN"/></NetworkSection>
  <VirtualSystemCollection ovf:id="app"><Info/>
    <StartupSection><Info/>
      <Item ovf:id="tier" ovf:order="1" ovf:startDelay="30" ovf:waitingForGuest="true"/>
      <Item ovf:id="web" ovf:order="2" ovf:stopAction="guestShutdown" ovf:stopDelay="20"/>
      <Item ovf:id="tool" ovf:order="3" ovf:startAction="none" ovf:stopAction="none"/>
    </StartupSection>
    <VirtualSystem ovf:id="web"><Info/>
      <ProductSection><Info/>
        <Property ovf:key="hostname" ovf:type="string" ovf:value="www"/>
        <Property ovf:key="admin" ovf:type="string" ovf:password="true" ovf:value="hunter2"><Value ovf:configuration="x" ovf:value="hunter2"/></Property>
      </ProductSection>
      <VirtualHardwareSection ovf:transport="iso com.vmware.guestInfo"><Info/>HARDWARE</VirtualHardwareSection>
    </VirtualSystem>
    <VirtualSystem ovf:id="tool"><Info/><VirtualHardwareSection><Info/>HARDWARE</VirtualHardwareSection></VirtualSystem>
    <VirtualSystemCollection ovf:id="tier"><Info/>
      <StartupSection><Info/><Item ovf:id="db" ovf:order="1" ovf:startDelay="7" ovf:stopAction="powerOff"/><Item ovf:id="api" ovf:order="2"/></StartupSection>
      <VirtualSystem ovf:id="api"><Info/>
        <ProductSection><Info/><Property ovf:key="port" ovf:type="uint16" ovf:value="80"/></ProductSection>
        <VirtualHardwareSection ovf:transport="iso"><Info/>HARDWARE</VirtualHardwareSection></VirtualSystem>
      <VirtualSystem ovf:id="db"><Info/><VirtualHardwareSection><Info/>HARDWARE</VirtualHardwareSection></VirtualSystem>
    </VirtualSystemCollection>
  </VirtualSystemCollection></Envelope>`

const hardware = `
  <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
  <Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
  <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>20</rasd:ResourceType><rasd:ResourceSubType>AHCI</rasd:ResourceSubType></Item>
  <Item><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>3</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/both</rasd:HostResource></Item>`

const id = "abcdefgh23456777"

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// deployed is shop on a host in memory.
type deployed struct {
	host    *drivertest.Memory
	records []hypervisor.Record
	secrets secrets.Values
	doc     *ovf.Document
	events  []string
}

// put defines the machines of a descriptor, each with a disk of its own, one
// that web and db share, and the environment's.
func put(t *testing.T, text string, ready map[string]lifecycle.Probe) *deployed {
	t.Helper()
	ctx := t.Context()
	d := &deployed{host: drivertest.NewMemory()}
	var err error
	if d.doc, err = ovf.Parse([]byte(strings.ReplaceAll(text, "HARDWARE", hardware)), ovf.ParseOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := ovf.Resolve(d.doc.Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	caps, err := d.host.Capabilities(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	planned, err := deploy.Machines(r, caps, deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	made, environments := made, map[string]string{}
	volume := func(name string) *hypervisor.Medium {
		ref := hypervisor.VolumeRef{Pool: "default", Name: name}
		err := lifecycle.WriteVolume(ctx, d.host, ref, []byte("a disk"))
		if err != nil && !errors.Is(err, hypervisor.ErrExists) {
			t.Fatal(err)
		}
		return &hypervisor.Medium{Format: "raw", Volume: &ref}
	}
	for _, p := range planned {
		p.Machine.Name = "shop-" + p.System.ID
		name := "own-" + p.System.ID
		if p.System.ID == "web" || p.System.ID == "db" {
			name = "both"
		}
		p.Machine.Drives[0].Medium = volume(name)
		drive, err := environment.AddDrive(p, caps)
		if err != nil {
			t.Fatal(err)
		}
		if drive != "" {
			environments[p.System.ID] = drive
			p.Machine.Drives[len(p.Machine.Drives)-1].Medium = volume("env-" + p.System.ID)
		}
	}
	descriptor, err := lifecycle.NewDescriptor("shop.ovf", d.doc)
	if err != nil {
		t.Fatal(err)
	}
	d.records, d.secrets, err = lifecycle.Records(lifecycle.Deployment{ID: id, Name: "shop", Appliance: "Shop 1.0", Locator: "shop.ova", Made: made, By: "alice@desk",
		Target: caps, Descriptor: descriptor, Environments: environments, Ready: ready,
		Accepted: map[string][]lifecycle.Acceptance{"web": {{SHA256: "00", At: made, By: "alice"}}}}, r, planned)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range planned {
		if _, err := d.host.Define(ctx, p.Machine, d.records[i]); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// told keeps the events.
func (d *deployed) told(e lifecycle.Event) {
	d.events = append(d.events, strings.TrimSpace(fmt.Sprintf("%s %s", strings.TrimPrefix(e.Machine, "shop-"), e.Kind)))
}

// changes are those of a kind, by the machine's ID.
func (d *deployed) changes(kinds ...string) (all []string) {
	for _, c := range d.host.Changes() {
		kind, name, _ := strings.Cut(c, " shop-")
		if slices.Contains(kinds, kind) {
			all = append(all, kind+" "+name)
		}
	}
	return all
}

func (d *deployed) start(t *testing.T, opt lifecycle.Options) error {
	opt.Told = d.told
	return lifecycle.Start(t.Context(), d.host, id, opt)
}

func TestRecords(t *testing.T) {
	d := put(t, shop, nil)
	places := map[string]string{}
	for _, r := range d.records {
		data, err := lifecycle.DataOf(&r)
		if err != nil {
			t.Fatal(err)
		}
		if r.Deployment != id || data.Name != "shop" || data.Machines != 4 || data.By != "alice@desk" || len(data.Accepted) > 0 != (r.System == "web") {
			t.Errorf("%s: %+v", r.System, data)
		}
		var volumes []string
		for _, v := range data.Volumes {
			volumes = append(volumes, v.Name)
		}
		places[r.System] = fmt.Sprintf("%+v %+v %v", data.Start, data.Stop, volumes)
		text, err := data.Descriptor.Text()
		if err != nil || bytes.Contains(text, []byte("hunter2")) || !bytes.Contains(text, []byte(`ovf:key="admin"`)) {
			t.Errorf("the descriptor that is kept, %v:\n%s", err, text)
		}
		if _, err := ovf.Parse(text, ovf.ParseOptions{}); err != nil {
			t.Error(err)
		}
		if strings.Contains(string(r.Data), "hunter2") {
			t.Errorf("%s: a password in its record", r.System)
		}
	}
	want := map[string]string{
		"db":   "{Manual:false Step:0 DelaySeconds:7 WaitIn:0 Ready:{TCP: LimitSeconds:0}} {Action:powerOff DelaySeconds:0} [both]",
		"api":  "{Manual:false Step:1 DelaySeconds:30 WaitIn:2 Ready:{TCP: LimitSeconds:0}} {Action: DelaySeconds:0} [own-api env-api]",
		"web":  "{Manual:false Step:2 DelaySeconds:0 WaitIn:0 Ready:{TCP: LimitSeconds:0}} {Action:guestShutdown DelaySeconds:20} [both env-web]",
		"tool": "{Manual:true Step:3 DelaySeconds:0 WaitIn:0 Ready:{TCP: LimitSeconds:0}} {Action:none DelaySeconds:0} [own-tool]",
	}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(secrets.Values{"web": {"admin": "hunter2"}}, d.secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}

func TestUnreadableRecords(t *testing.T) {
	for _, data := range []string{"", "{", `{"apiVersion":"ovation/machine/v99"}`, `[]`} {
		if _, err := lifecycle.DataOf(&hypervisor.Record{Data: json.RawMessage(data)}); !errors.Is(err, lifecycle.ErrRecord) {
			t.Errorf("%q: %v", data, err)
		}
	}
	for _, d := range []lifecycle.Descriptor{{Size: -1, Deflate: []byte{0}}, {Size: 1 << 40, Deflate: []byte{0}}, {Size: 3, Deflate: []byte{0xff}}, {Size: 3, Deflate: []byte{3, 0}}} {
		if _, err := d.Text(); !errors.Is(err, lifecycle.ErrRecord) {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

// document is what the CD-ROM of a machine says.
func (d *deployed) document(t *testing.T, system string) *ovfenv.Environment {
	t.Helper()
	r, err := d.host.OpenVolume(t.Context(), hypervisor.VolumeRef{Pool: "default", Name: "env-" + system})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	image, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(image, []byte("<?xml"))
	if at < 0 {
		return nil
	}
	e, err := ovfenv.Parse(bytes.TrimRight(image[at:], "\x00"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestStartAndStopInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := put(t, shop, nil)
		begun := time.Now()
		apiUp := begun.Add(15 * time.Second)
		d.host.Answers = func(string) bool { return !time.Now().Before(apiUp) }
		if err := d.start(t, lifecycle.Options{Secrets: d.secrets}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("took %v: 7 s after db, and until api answers", took)
		}
		want := []string{"tool left", "db starting", "db started", "waiting", "api starting", "api started", "api waiting", "web starting", "web started"}
		if diff := cmp.Diff(want, d.events); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		env := d.document(t, "web")
		if env == nil || env.ID != "web" || env.Platform.Kind != "memory" || fmt.Sprint(env.Properties) != "[{hostname www} {admin hunter2}]" {
			t.Errorf("web is told %+v", env)
		}

		// Again: nothing to do, no time taken, nothing changed.
		changes, begun := len(d.host.Changes()), time.Now()
		if err := d.start(t, lifecycle.Options{Secrets: d.secrets}); err != nil || len(d.host.Changes()) != changes || time.Since(begun) > time.Second {
			t.Errorf("starting what runs: %v, %v", err, d.host.Changes()[changes:])
		}
		if err := d.start(t, lifecycle.Options{Machines: []string{"tool"}}); err != nil {
			t.Fatal(err)
		}
		d.events = nil
		if err := lifecycle.Stop(t.Context(), d.host, id, lifecycle.Options{Told: d.told}); err != nil {
			t.Fatal(err)
		}
		want = []string{"tool left", "web asked", "web ended", "api asked", "api ended", "db killed"}
		if diff := cmp.Diff(want, d.events); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"start db", "start api", "start web", "start tool", "shutdown web", "shutdown api", "kill db"}, d.changes("start", "shutdown", "kill")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := lifecycle.Stop(t.Context(), d.host, id, lifecycle.Options{Force: true}); err != nil {
			t.Fatal(err)
		}
		if all := d.changes("kill"); !slices.Equal(all, []string{"kill db", "kill tool"}) {
			t.Errorf("%v", all)
		}
	})
}

// TestLateGuest has a guest that never answers: with a delay that is the longest
// wait; without one it ends the start.
func TestLateGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := put(t, shop, nil)
		d.host.Answers = func(string) bool { return false }
		if err := d.start(t, lifecycle.Options{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(d.events, "api late") || !slices.Contains(d.events, "web started") {
			t.Errorf("%v", d.events)
		}
		d = put(t, strings.ReplaceAll(shop, `ovf:startDelay="30" `, ""), nil)
		d.host.Answers = func(string) bool { return false }
		err := d.start(t, lifecycle.Options{})
		var e *sequence.Error[*lifecycle.Machine]
		if !errors.Is(err, sequence.ErrNotReady) || !errors.As(err, &e) || e.Member.Name != "shop-api" || len(e.Left) != 1 || e.Left[0].Name != "shop-web" {
			t.Errorf("%v", err)
		}
		d.host.Answers = nil
		if err := d.start(t, lifecycle.Options{}); err != nil {
			t.Error("going on from there:", err)
		}
		if diff := cmp.Diff([]string{"start db", "start api", "start web"}, d.changes("start")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestPort waits for a port instead of an agent.
func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	d := put(t, `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
	  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
	  <DiskSection><Info/><Disk ovf:diskId="both" ovf:capacity="1048576"/></DiskSection>
	  <VirtualSystem ovf:id="one"><Info/><VirtualHardwareSection><Info/>HARDWARE</VirtualHardwareSection></VirtualSystem></Envelope>`,
		map[string]lifecycle.Probe{"one": {TCP: at}})
	d.host.Answers = func(string) bool { return false }
	serve := make(chan struct{})
	go func() {
		defer l.Close()
		first, err := l.Accept() // as what forwards ports does, with nobody behind it
		if err != nil {
			return
		}
		first.Close()
		second, err := l.Accept()
		if err != nil {
			return
		}
		<-serve
		second.Close()
	}()
	if err := d.start(t, lifecycle.Options{Wait: true, ReadyLimit: time.Minute}); err != nil {
		t.Error(err)
	}
	close(serve)
	if _, err := l.Accept(); err == nil {
		t.Error("the port was not asked a second time")
	}
}

// TestElsewhere starts where the secrets are not: what is there stays.
func TestElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := put(t, shop, nil)
		if err := d.start(t, lifecycle.Options{Machines: []string{"web", "shop-api"}}); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(d.events, "web stale") || slices.Contains(d.events, "api stale") {
			t.Errorf("%v", d.events)
		}
		if got := d.document(t, "web"); got != nil {
			t.Errorf("web's was made without its secrets: %+v", got)
		}
		if got := d.document(t, "api"); got == nil || got.ID != "api" {
			t.Errorf("api is told %+v", got)
		}
	})
}

// TestStartFailsAnywhere ends a start at every change that it makes, before and
// after it was made, and starts again.
func TestStartFailsAnywhere(t *testing.T) {
	anywhere(t, func(t *testing.T, d *deployed) error {
		return d.start(t, lifecycle.Options{Secrets: d.secrets})
	}, func(t *testing.T, d *deployed, err error) {
		var e *sequence.Error[*lifecycle.Machine]
		if !errors.As(err, &e) {
			t.Errorf("%v", err)
		}
		for _, m := range e.Done {
			if state, err := m.State(t.Context()); err != nil || state != hypervisor.Running {
				t.Errorf("%s is said to run, and is %s, %v", m, state, err)
			}
		}
	}, func(t *testing.T, d *deployed) {
		for _, name := range []string{"shop-db", "shop-api", "shop-web"} {
			k, err := d.host.Lookup(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if state, _ := k.State(t.Context()); state != hypervisor.Running {
				t.Errorf("%s is %s", name, state)
			}
		}
		if got := d.document(t, "web"); got == nil || got.ID != "web" {
			t.Errorf("web is told %+v", got)
		}
	})
}

// TestRemoveFailsAnywhere does so with a removal, of machines that run.
func TestRemoveFailsAnywhere(t *testing.T) {
	anywhere(t, func(t *testing.T, d *deployed) error {
		return lifecycle.Remove(t.Context(), d.host, id, lifecycle.Options{})
	}, func(t *testing.T, d *deployed, _ error) {
		// What is left of it can still be found.
		_, err := lifecycle.Find(t.Context(), d.host, "shop")
		if len(d.host.Volumes()) > 0 && err != nil {
			t.Errorf("volumes %v are left, and %v", d.host.Volumes(), err)
		}
	}, func(t *testing.T, d *deployed) {
		if v := d.host.Volumes(); len(v) > 0 {
			t.Errorf("left behind: %v", v)
		}
		if all, err := d.host.List(t.Context(), true); err != nil || len(all) > 0 {
			t.Errorf("left behind: %v, %v", all, err)
		}
	})
}

var errFault = errors.New("a fault")

// anywhere does something that is ended at its first change, at its second, and
// so on, and then again to its end.
func anywhere(t *testing.T, do func(*testing.T, *deployed) error, ended func(*testing.T, *deployed, error), after func(*testing.T, *deployed)) {
	for at := 0; ; at++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			d := put(t, shop, nil)
			if err := d.start(t, lifecycle.Options{Machines: []string{"tool"}}); err != nil {
				t.Fatal(err)
			}
			n := 0
			d.host.Fault = func(string, bool) error {
				if n++; n == at+1 {
					return errFault
				}
				return nil
			}
			err := do(t, d)
			d.host.Fault = nil
			// A host that answers late may have done all the same.
			done = err == nil && n <= at
			if err != nil {
				if !errors.Is(err, errFault) {
					t.Fatalf("at change %d: %v", at, err)
				}
				ended(t, d, err)
				if err := do(t, d); err != nil {
					t.Fatalf("again after change %d: %v", at, err)
				}
			}
			after(t, d)
		})
		if done || t.Failed() {
			if at < 10 {
				t.Errorf("%d changes only", at)
			}
			return
		}
	}
}

func TestRemoveParts(t *testing.T) {
	d := put(t, shop, nil)
	volumes := func() string {
		var names []string
		for _, v := range d.host.Volumes() {
			names = append(names, v.Name)
		}
		return strings.Join(names, " ")
	}
	if err := lifecycle.Remove(t.Context(), d.host, id, lifecycle.Options{Machines: []string{"db"}, Told: d.told}); err != nil {
		t.Fatal(err)
	}
	if got := volumes(); got != "both env-api env-web own-api own-tool" || !slices.Contains(d.events, "db stays") {
		t.Errorf("left: %s, said: %v", got, d.events)
	}
	f, err := lifecycle.Find(t.Context(), d.host, "shop")
	if err != nil || len(f.Machines) != 3 || f.Missing != 1 {
		t.Errorf("%+v, %v", f, err)
	}
	if err := lifecycle.Remove(t.Context(), d.host, id, lifecycle.Options{KeepVolumes: true}); err != nil {
		t.Fatal(err)
	}
	if got := volumes(); got != "both own-api own-tool" {
		t.Errorf("left: %s", got)
	}
	if err := lifecycle.Remove(t.Context(), d.host, id, lifecycle.Options{}); err != nil {
		t.Errorf("what is gone: %v", err)
	}
}

func TestUnreadableMachine(t *testing.T) {
	d := put(t, shop, nil)
	r := d.records[0]
	r.Data = json.RawMessage(`{"apiVersion":"ovation/machine/v2"}`)
	k, err := d.host.List(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.host.SetRecord(t.Context(), k[0].Name, r); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func(context.Context, hypervisor.Host, string, lifecycle.Options) error{"start": lifecycle.Start, "stop": lifecycle.Stop, "remove": lifecycle.Remove} {
		if err := do(t.Context(), d.host, id, lifecycle.Options{}); !errors.Is(err, lifecycle.ErrRecord) || !strings.Contains(err.Error(), k[0].Name) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(d.changes("start", "kill", "remove", "shutdown")) > 0 {
		t.Errorf("something was changed: %v", d.host.Changes())
	}
	if err := lifecycle.Remove(t.Context(), d.host, id, lifecycle.Options{Force: true, Told: d.told}); err != nil {
		t.Fatal(err)
	}
	if all, err := d.host.List(t.Context(), true); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestFind(t *testing.T) {
	d := put(t, shop, nil)
	for _, name := range []string{"shop", id, id[:4], "shop-web"} {
		if f, err := lifecycle.Find(t.Context(), d.host, name); err != nil || f.ID != id || f.Machines[0].Name != "shop-db" {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for _, name := range []string{"", "sho", id[:3], "web2"} {
		if _, err := lifecycle.Find(t.Context(), d.host, name); !errors.Is(err, hypervisor.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	second := d.records[0]
	second.Deployment = "zzzz"
	if _, err := d.host.Define(t.Context(), hypervisor.Machine{Name: "other", CPU: hypervisor.CPU{Count: 1}}, second); err != nil {
		t.Fatal(err)
	}
	var e *lifecycle.AmbiguousError
	if _, err := lifecycle.Find(t.Context(), d.host, "shop"); !errors.As(err, &e) || len(e.IDs) != 2 {
		t.Errorf("%v", err)
	}
}

// TestAnyOrder makes records of any StartupSection and starts and stops by
// them: orders are kept, and stopping is the reverse.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(rt, "systems")
		var items, systems strings.Builder
		orders := map[string]int{}
		for i := range n {
			name := fmt.Sprintf("s%d", i)
			orders[name] = rapid.IntRange(0, 3).Draw(rt, "order")
			fmt.Fprintf(&items, `<Item ovf:id="%s" ovf:order="%d" ovf:startDelay="%d" ovf:waitingForGuest="%v" ovf:stopAction="%s" ovf:stopDelay="%d"/>`, name, orders[name],
				rapid.IntRange(0, 5).Draw(rt, "delay"), rapid.Bool().Draw(rt, "wait"), rapid.SampledFrom([]string{"", "powerOff", "guestShutdown"}).Draw(rt, "stop"), rapid.IntRange(0, 5).Draw(rt, "stop delay"))
			fmt.Fprintf(&systems, `<VirtualSystem ovf:id="%s"><Info/><VirtualHardwareSection><Info/>HARDWARE</VirtualHardwareSection></VirtualSystem>`, name)
		}
		text := `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
		  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
		  <DiskSection><Info/><Disk ovf:diskId="both" ovf:capacity="1048576"/></DiskSection>
		  <VirtualSystemCollection ovf:id="c"><Info/><StartupSection><Info/>` + items.String() + `</StartupSection>` + systems.String() + `</VirtualSystemCollection></Envelope>`
		first := 4 // what has no order starts with the first
		for _, o := range orders {
			if o > 0 {
				first = min(first, o)
			}
		}
		place := func(change string) int {
			_, name, _ := strings.Cut(change, " ")
			if orders[name] == 0 {
				return first
			}
			return orders[name]
		}
		var problem string
		synctest.Test(t, func(t *testing.T) {
			d := put(t, text, nil)
			if err := d.start(t, lifecycle.Options{}); err != nil {
				problem = err.Error()
				return
			}
			started := d.changes("start")
			if err := lifecycle.Stop(t.Context(), d.host, id, lifecycle.Options{}); err != nil {
				problem = err.Error()
				return
			}
			stopped := d.changes("shutdown", "kill")
			slices.Reverse(stopped)
			for what, changes := range map[string][]string{"started": started, "stopped, backwards": stopped} {
				if len(changes) != n || !slices.IsSortedFunc(changes, func(a, b string) int { return place(a) - place(b) }) {
					problem = fmt.Sprintf("%s: %v", what, changes)
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// TestActs writes down what was done, and leaves what it does not know.
func TestActs(t *testing.T) {
	d := put(t, shop, nil)
	k, err := d.host.Lookup(t.Context(), "shop-db")
	if err != nil {
		t.Fatal(err)
	}
	r := *k.Record
	r.Data = append(bytes.TrimSuffix(bytes.Clone(r.Data), []byte("}")), []byte(`,"later":{"x":1}}`)...)
	if err := d.host.SetRecord(t.Context(), "shop-db", r); err != nil {
		t.Fatal(err)
	}
	act := func(what history.What, n int) *history.Act {
		return &history.Act{Time: made.Add(time.Duration(n) * time.Hour), What: what, By: "bob@elsewhere"}
	}
	for n := range 15 {
		// tool runs through all of it, and db alone is meant.
		opt := lifecycle.Options{Machines: []string{"db"}, Act: act(history.Started, n)}
		if err := d.start(t, opt); err != nil {
			t.Fatal(err)
		}
		opt.Act, opt.Force = act(history.Stopped, n), true
		for range 2 { // the second finds nothing to do
			if err := lifecycle.Stop(t.Context(), d.host, id, opt); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := lifecycle.List(t.Context(), d.host)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all[0].Machines {
		switch h := m.Data.History; {
		case m.Record.System != "db" && len(h) > 0:
			t.Errorf("%s: %v", m, h)
		case m.Record.System == "db" && (len(h) != 20 || !cmp.Equal(h[0], *act(history.Started, 5)) || !cmp.Equal(h[19], *act(history.Stopped, 14)) || !bytes.Contains(m.Record.Data, []byte(`"later":{"x":1}`))):
			t.Errorf("%s: %v", m, h)
		}
	}
}

func TestParseProbe(t *testing.T) {
	for text, want := range map[string]lifecycle.Probe{
		"agent": {}, "agent,90s": {LimitSeconds: 90}, "192.0.2.7:443": {TCP: "192.0.2.7:443"}, "[2001:db8::1]:22,10m": {TCP: "[2001:db8::1]:22", LimitSeconds: 600},
		"db.example.org:5432": {TCP: "db.example.org:5432"},
	} {
		if got, err := lifecycle.ParseProbe(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "host", ":80", "host:", "host:0", "host:99999", "host:http", "agent,", "agent,0s", "agent,1000h", "agent,soon", "1:2:3:4"} {
		if got, err := lifecycle.ParseProbe(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

// TestLimit waits as long as the probe says, and no longer than the caller.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.ReplaceAll(shop, `ovf:startDelay="30" `, "")
		for _, test := range []struct{ probe, caller, want time.Duration }{{0, 0, 5 * time.Minute}, {90 * time.Second, 0, 90 * time.Second}, {90 * time.Second, 20 * time.Second, 20 * time.Second}} {
			d := put(t, text, map[string]lifecycle.Probe{"api": {LimitSeconds: int(test.probe / time.Second)}})
			d.host.Answers = func(string) bool { return false }
			begun := time.Now()
			err := d.start(t, lifecycle.Options{ReadyLimit: test.caller})
			// db's delay of 7 s comes before.
			if took := time.Since(begun) - 7*time.Second; !errors.Is(err, sequence.ErrNotReady) || took < test.want || took > test.want+6*time.Second {
				t.Errorf("%+v: took %v, %v", test, took, err)
			}
		}
	})
}
