package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf/ovfenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// debianPython is the one that Debian's libraries are for.
const debianPython = "/usr/bin/python3"

// readOVF is what cloud-init does in a guest whose CD-ROM is mounted: its own
// search for the document, and its own reading.
const readOVF = `
import json, sys
from cloudinit import util
from cloudinit.sources import DataSourceOVF as ovf
util.mounts = lambda: {"/dev/sr0": {"fstype": "iso9660", "mountpoint": sys.argv[1], "opts": "ro"}}
found = ovf.transport_iso9660()
md, ud, cfg = ovf.read_ovf_environment(found)
print(json.dumps({"md": md, "ud": ud.decode(), "cfg": cfg, "all": ovf.get_properties(found)}))
`

// identify asks cloud-init's own detector, which decides at boot whether the
// data source is tried, about a machine whose file system is below PATH_ROOT and
// whose CD-ROM blkid describes so.
const identify = `
PATH_ROOT=$2 DI_MAIN=noop . "$1"
DI_BLKID_EXPORT_OUT=$3
is_container() { return 1; }
blkid_export() { return 0; }
read_fs_info_linux
has_ovf_cdrom && echo found || echo "not found"
`

// TestCloudInit gives the CD-ROM with the environment document to the real
// cloud-init: that it is one, where the document is, and what it says.
func TestCloudInit(t *testing.T) {
	t.Parallel()
	testenv.NeedFile(t, debianPython)
	xorriso, blkid := testenv.NeedTool(t, "xorriso"), "/usr/sbin/blkid"
	testenv.NeedFile(t, blkid)
	deb, err := appliance.Deb(t.Context(), "cloud-init")
	if errors.Is(err, appliance.ErrMissing) {
		testenv.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	output := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(dir, "usr/lib/python3/dist-packages"))
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				t.Fatalf("%s: %v\n%s%s", name, err, out, exit.Stderr)
			}
			t.Fatal(err)
		}
		return string(out)
	}
	output("dpkg-deb", "-x", deb, dir)

	userData := "#cloud-config\nruncmd: [true]\n"
	env := &ovfenv.Environment{ID: "web", Platform: &ovfenv.Platform{Kind: "libvirt", Version: "9", Vendor: "libvirt", Locale: "en"},
		Properties: []ovfenv.Property{
			{Key: "hostname", Value: "www <&> \"ü\""}, {Key: "instance-id", Value: "iid-1"}, {Key: "password", Value: "hunter2"},
			{Key: "public-keys", Value: "ssh-ed25519 AAAA\nssh-rsa BBBB"}, {Key: "seedfrom", Value: ""},
			{Key: "user-data", Value: base64.StdEncoding.EncodeToString([]byte(userData))}, {Key: "org.example.size.1", Value: "7"}},
		Entities: []ovfenv.Entity{{ID: "db", Properties: []ovfenv.Property{{Key: "hostname", Value: "not mine"}}}}}
	image, err := environment.Image(env, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	iso, size := filepath.Join(dir, "dev/sr0"), filepath.Join(dir, "sys/class/block/sr0/size")
	for path, content := range map[string][]byte{iso: image, size: fmt.Appendln(nil, len(image)/512)} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	said := output(blkid, "-p", "-o", "export", iso)
	if !strings.Contains(said, "TYPE=iso9660\n") || !strings.Contains(said, "LABEL=OVF\\ ENV\n") {
		t.Errorf("blkid says\n%s", said)
	}
	if got := output("sh", "-c", identify, "sh", filepath.Join(dir, "usr/lib/cloud-init/ds-identify"), dir, strings.Replace(said, iso, "/dev/sr0", 1)); strings.TrimSpace(got) != "found" {
		t.Errorf("cloud-init does not take the CD-ROM for an OVF environment (%q); blkid says\n%s", got, said)
	}

	mounted := filepath.Join(dir, "mounted")
	output(xorriso, "-osirrox", "on", "-indev", iso, "-extract", "/", mounted)
	var got, want struct {
		MD, Cfg, All map[string]string
		UD           string
	}
	if err := json.Unmarshal([]byte(output(debianPython, "-c", readOVF, mounted)), &got); err != nil {
		t.Fatal(err)
	}
	want.MD = map[string]string{"local-hostname": "www <&> \"ü\"", "instance-id": "iid-1", "public-keys": "ssh-ed25519 AAAA\nssh-rsa BBBB", "seedfrom": ""}
	want.Cfg, want.UD, want.All = map[string]string{"password": "hunter2"}, userData, map[string]string{}
	for _, p := range env.Properties {
		want.All[p.Key] = p.Value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cloud-init reads (-want +got):\n%s", diff)
	}
}
