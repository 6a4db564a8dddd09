package vsphere

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// group is a package of two machines.
func group() hypervisor.ImportSpec {
	s := spec("shop-web", "web1.vmdk", "web2.vmdk")
	db := spec("shop-db", "db.vmdk").Systems[0]
	s.Deployment, s.Group = "dep-shop", "shop"
	db.ID, s.Systems[0].ID = "db", "web"
	s.Systems = append(s.Systems, db)
	for i := range s.Systems {
		s.Systems[i].Record = record("dep-shop", s.Systems[i].ID)
		s.Systems[i].Start = hypervisor.ImportStart{Order: len(s.Systems) - i, Shutdown: true}
	}
	return s
}

// nothing sees that a simulator has no machine and no vApp, and that what is in
// its datastores is none's.
func nothing(t *testing.T, s *testvsphere.Server) {
	t.Helper()
	for _, kind := range []string{"VirtualMachine", "VirtualApp"} {
		for _, e := range s.Model.Map().All(kind) {
			t.Errorf("there is the %s %s still", kind, e.Entity().Name)
		}
	}
}

func TestImportGroup(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	i, err := h.PrepareImport(t.Context(), group())
	check(t, err)
	if p := i.Plan(); p.Group != "shop" || len(p.Machines) != 2 {
		t.Errorf("plan %+v", p)
	}
	var notes []string
	check(t, i.Run(t.Context(), opener, hypervisor.ImportOptions{Note: func(s string) { notes = append(notes, s) }}))
	// The simulator has no UpdateVAppConfig: that is said, and the import stands.
	if len(notes) != 1 || !strings.Contains(notes[0], "vApp shop") {
		t.Errorf("notes %q", notes)
	}
	for _, name := range []string{"shop-web", "shop-db"} {
		k, err := h.Lookup(t.Context(), name)
		check(t, err)
		if k.Record.Deployment != "dep-shop" {
			t.Errorf("%s is of %q", name, k.Record.Deployment)
		}
	}
	if err := again(t, h, group()); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("again: %v", err)
	}
	// Others' deployments leave it alone.
	check(t, h.UndoImport(t.Context(), i.Plan(), "dep-other"))
	if _, err := h.Lookup(t.Context(), "shop-db"); err != nil {
		t.Error(err)
	}
	check(t, h.UndoImport(t.Context(), i.Plan(), "dep-shop"))
	check(t, h.UndoImport(t.Context(), i.Plan(), "dep-shop"))
	nothing(t, s)
}

// TestImportGroupNoDRS makes the machines side by side where there can be no
// vApp.
func TestImportGroupNoDRS(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{ESX: true})
	h := open(t, s.URI(""))
	i, err := h.PrepareImport(t.Context(), group())
	check(t, err)
	if p := i.Plan(); p.Group != "" || len(p.Warnings) == 0 || !strings.Contains(p.Warnings[0], "ESXi") {
		t.Errorf("plan %+v", p)
	}
	check(t, i.Run(t.Context(), opener, hypervisor.ImportOptions{}))
	all, err := h.List(t.Context(), false)
	check(t, err)
	if len(all) != 2 {
		t.Errorf("%d machines", len(all))
	}
	for _, k := range all {
		check(t, k.Remove(t.Context()))
	}
	nothing(t, s)
}

// TestImportRefused names all reasons and makes nothing.
func TestImportRefused(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	for name, c := range map[string]struct {
		change func(*hypervisor.ImportSpec)
		want   []string
	}{
		"network": {func(s *hypervisor.ImportSpec) { s.Networks[0].HostNetwork = "nowhere" }, []string{"nowhere", "VM Network"}},
		"layout":  {func(s *hypervisor.ImportSpec) { s.Provisioning = "strange" }, []string{"strange"}},
		"device": {func(s *hypervisor.ImportSpec) {
			s.Systems[0].Descriptor = strings.Replace(s.Systems[0].Descriptor, "VmxNet3", "rtl8139", 1)
			s.Networks[0].HostNetwork = "nowhere"
		}, []string{"nowhere", "rtl8139"}},
		"storage": {func(s *hypervisor.ImportSpec) { s.Storage = "tape" }, []string{"tape", "LocalDS_0"}},
	} {
		want := spec("web", "disk.vmdk")
		c.change(&want)
		_, err := h.PrepareImport(t.Context(), want)
		if !errors.Is(err, hypervisor.ErrUnfit) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not named: %v", name, w, err)
			}
		}
	}
	bad := spec("web", "disk.vmdk")
	bad.Systems[0].Descriptor = "<Envelope>"
	if _, err := h.PrepareImport(t.Context(), bad); err == nil {
		t.Error("what is no descriptor was taken")
	}
	nothing(t, s)
}

// cut ends an upload's connection when some of it has come.
func cut(_ string, w http.ResponseWriter, r *http.Request) bool {
	_, _ = io.CopyN(io.Discard, r.Body, 10000)
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		c.Close()
	}
	return true
}

// fault answers one method with a fault.
func fault(method, kind string) func(string, http.ResponseWriter, *http.Request) bool {
	return func(m string, w http.ResponseWriter, r *http.Request) bool {
		if m != method {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		testvsphere.Fault(w, kind, "no "+method+" today")
		return true
	}
}

var errSource = errors.New("the digest is another")

// TestImportFails lets an import fail at every step, and wants nothing of it to
// stay.
func TestImportFails(t *testing.T) {
	type failure struct {
		server func(*testvsphere.Server)
		host   func(*Host)
		spec   func(*hypervisor.ImportSpec)
		open   hypervisor.OpenImportFile
		ctx    func(context.Context, *testvsphere.Server) (context.Context, context.CancelFunc)
		want   []string
		is     error
	}
	// second is the second upload that comes.
	second := func(do func(string, http.ResponseWriter, *http.Request) bool) func(string, http.ResponseWriter, *http.Request) bool {
		var n atomic.Int32
		return func(name string, w http.ResponseWriter, r *http.Request) bool { return n.Add(1) == 2 && do(name, w, r) }
	}
	answer := func(code int) func(string, http.ResponseWriter, *http.Request) bool {
		return func(_ string, w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, "no", code)
			return true
		}
	}
	s := testvsphere.Start(t, testvsphere.Options{})
	for name, f := range map[string]failure{
		"no vApp":        {server: func(s *testvsphere.Server) { s.Call = fault("CreateVApp", "InsufficientResourcesFault") }, want: []string{"vApp shop", "no CreateVApp"}},
		"no import":      {server: func(s *testvsphere.Server) { s.Call = fault("ImportVApp", "InsufficientResourcesFault") }, want: []string{"shop-", "begins to import"}},
		"lease error":    {spec: func(s *hypervisor.ImportSpec) { notConfigurable(&s.Systems[1]) }, want: []string{"shop-db", "makes the machine", "not user configurable"}},
		"upload refused": {server: func(s *testvsphere.Server) { s.Transfer = second(answer(500)) }, want: []string{"500 Internal", ".vmdk", "127.0.0.1"}},
		"upload cut":     {server: func(s *testvsphere.Server) { s.Transfer = second(cut) }, want: []string{".vmdk", "127.0.0.1"}},
		"no end":         {server: func(s *testvsphere.Server) { s.Call = fault("HttpNfcLeaseComplete", "Timedout") }, want: []string{"ends the import"}},
		"session lost":   {server: loseSession, want: []string{"shop-"}},
		"no such file":   {open: func(context.Context, hypervisor.ImportFile) (*hypervisor.ImportContent, error) { return nil, errSource }, is: errSource, want: []string{".vmdk"}},
		"source unfit":   {open: halfway, is: errSource, want: []string{"db.vmdk"}},
		"lease not kept": {server: func(s *testvsphere.Server) {
			s.Call = fault("HttpNfcLeaseProgress", "Timedout")
			s.Transfer = stalled(nil)
		}, host: func(h *Host) { h.keepAlive = 10 * time.Millisecond }, want: []string{"the lease of the transfer"}},
		"context ended":      {ctx: cancelled, is: context.Canceled},
		"less than was said": {open: short, want: []string{".vmdk"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, s.URI("DC0/host/DC0_C0"))
			want := group()
			if f.spec != nil {
				f.spec(&want)
			}
			i, err := h.PrepareImport(t.Context(), want)
			check(t, err)
			if f.server != nil {
				f.server(s)
			}
			if f.host != nil {
				f.host(h)
			}
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if f.ctx != nil {
				ctx, cancel = f.ctx(ctx, s)
			}
			defer cancel()
			source := f.open
			if source == nil {
				source = opener
			}
			err = i.Run(ctx, source, hypervisor.ImportOptions{})
			if err == nil {
				t.Fatal("it did not fail")
			}
			var left *hypervisor.ImportLeftError
			if errors.As(err, &left) {
				t.Errorf("something is left: %v", err)
			}
			if f.is != nil && !errors.Is(err, f.is) {
				t.Errorf("%v is not %v", err, f.is)
			}
			for _, w := range f.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
			if text := err.Error(); strings.Contains(text, "/nfc/") || strings.Contains(text, "hush") || strings.Contains(text, testvsphere.Password) {
				t.Errorf("a secret is in: %v", err)
			}
			s.Call, s.Transfer = nil, nil
			nothing(t, s)
		})
	}
}

// notConfigurable gives a property a value that the simulator's lease refuses.
func notConfigurable(s *hypervisor.ImportSystem) {
	s.Descriptor = strings.Replace(s.Descriptor, `ovf:key="hostname" ovf:type="string" ovf:userConfigurable="true"`, `ovf:key="hostname" ovf:type="string" ovf:userConfigurable="false"`, 1)
}

// loseSession ends the sessions when the files come.
func loseSession(s *testvsphere.Server) {
	var once atomic.Bool
	s.Transfer = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if once.CompareAndSwap(false, true) {
			if err := s.EndSessions(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusTeapot)
				return true
			}
		}
		return false
	}
}

// halfway is a file whose reading fails.
func halfway(ctx context.Context, f hypervisor.ImportFile) (*hypervisor.ImportContent, error) {
	c, err := opener(ctx, f)
	if f.Href == "db.vmdk" {
		c.ReadCloser = io.NopCloser(io.MultiReader(io.LimitReader(c.ReadCloser, 1000), iotest.ErrReader(errSource)))
	}
	return c, err
}

// short is a file that ends before its size.
func short(ctx context.Context, f hypervisor.ImportFile) (*hypervisor.ImportContent, error) {
	c, err := opener(ctx, f)
	c.ReadCloser = io.NopCloser(io.LimitReader(c.ReadCloser, 1000))
	return c, err
}

// stalled takes what comes and never answers.
func stalled(begun func()) func(string, http.ResponseWriter, *http.Request) bool {
	return func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		if begun != nil {
			begun()
		}
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		}
		return true
	}
}

func cancelled(ctx context.Context, s *testvsphere.Server) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	s.Transfer = stalled(cancel)
	return ctx, cancel
}

// TestImportLeft says so where what was made can't be removed.
func TestImportLeft(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	i, err := h.PrepareImport(t.Context(), group())
	check(t, err)
	s.Call, s.Transfer = fault("Destroy_Task", "NoPermission"), cut
	var left *hypervisor.ImportLeftError
	if err := i.Run(t.Context(), opener, hypervisor.ImportOptions{}); !errors.As(err, &left) || !strings.Contains(err.Error(), "could not be removed") {
		t.Fatal(err)
	}
	s.Call, s.Transfer = nil, nil
	if n := len(s.Model.Map().All("VirtualMachine")); n == 0 {
		t.Error("nothing is left")
	}
	// The next one has what it takes.
	check(t, h.UndoImport(t.Context(), i.Plan(), "dep-shop"))
	nothing(t, s)
	if slices.Contains(s.Calls(), "PowerOnVM_Task") {
		t.Error("something was started")
	}
}
