package appliance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/internal/testenv"
)

// TestBuild looks at what is built with the tools of others.
func TestBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("building takes a while")
	}
	b, err := New(t.Context())
	if errors.Is(err, ErrMissing) {
		testenv.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{
		Name: "a&b", Boot: BootBoth, Controller: "pvscsi", CPUs: 2, Digest: "SHA1",
		Disks: []Disk{{Size: 1 << 20, Seed: 7}, {Size: 1 << 20, Seed: 8, Controller: "ide"}},
		NICs:  []NIC{{Model: "VmxNet3", MAC: "52:54:00:00:00:01"}},
		CDROM: true, Properties: []Property{{Key: "greeting", Value: `<"hi">`}},
	}
	p, err := b.Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("tar", "-tf", p.OVA).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(string(list)), []string{"a&b.ovf", "a&b.mf", "a&b-disk1.vmdk", "a&b-disk2.vmdk", "a&b-disk3.vmdk"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the OVA holds %q, want %q", got, want)
	}
	for _, d := range p.Disks {
		out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "vmdk", d.Raw, filepath.Join(p.Dir, d.File)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", d.File, err, out)
		}
	}
	if p.Disks[1].SHA256 == p.Disks[2].SHA256 {
		t.Error("two seeds gave the same disk")
	}
	manifest, err := os.ReadFile(p.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(manifest, []byte("SHA1(")); n != 4 {
		t.Errorf("the manifest has %d lines of SHA1, want 4:\n%s", n, manifest)
	}
	again, err := b.Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if again.OVA != p.OVA {
		t.Errorf("built again at %s, was at %s", again.OVA, p.OVA)
	}
}

func TestBuildRefuses(t *testing.T) {
	b, err := New(t.Context())
	if errors.Is(err, ErrMissing) {
		testenv.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Build(t.Context(), Spec{Controller: "mfm"}); err == nil {
		t.Error("a controller that is not known was accepted")
	}
	left, err := filepath.Glob(filepath.Join(b.cache, "making-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
