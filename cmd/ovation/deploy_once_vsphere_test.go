package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// shopSpec is two machines with three disks each, more than are sent at once
// otherwise, and with firmware that only their disks tell.
const shopSpec = `
version: 1
name: shop
networks: [VM Network]
disks: [{id: a, source: a.raw}, {id: b, source: b.raw}, {id: c, source: c.raw}, {id: d, source: d.raw}, {id: e, source: e.raw}, {id: f, source: f.raw}]
collection:
  id: shop
  contents:
    - machine: {id: web, os: {id: 101, vmware: debian12_64Guest}, hardware: {cpus: 1, memory: 256MiB, disks: [{disk: a}, {disk: b}, {disk: c}]}}
    - machine: {id: db, os: {id: 101, vmware: debian12_64Guest}, hardware: {cpus: 1, memory: 256MiB, disks: [{disk: d}, {disk: e}, {disk: f}]}}
`

// reversed is an archive with the files behind the descriptor in another order:
// the disks from the last to the first, and the manifest behind them.
func reversed(t *testing.T, data []byte) []byte {
	t.Helper()
	type file struct {
		*tar.Header
		data []byte
	}
	var files []file
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{h, text})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(f file) {
		if err := w.WriteHeader(f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	put(files[0])
	for i := len(files) - 1; i > 0; i-- {
		put(files[i])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDeployOnceVSphere sends what comes once to vSphere as it comes, in whatever
// order that is: no disk lies here, the machines have what came, and the firmware
// that it boots with.
func TestDeployOnceVSphere(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	v := testvsphere.Start(t, testvsphere.Options{})
	temp := t.TempDir() // not the simulator's
	t.Setenv("TMPDIR", temp)
	cluster := v.URI("DC0/host/DC0_C0")
	dir := t.TempDir()
	contents := map[string][]byte{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		contents[id] = text(2<<20, "disk "+id+" ")
	}
	// The first disk of db has an EFI system partition, in its GPT.
	gpt := contents["d"]
	clear(gpt[:4096])
	gpt[510], gpt[511], gpt[446+4] = 0x55, 0xaa, 0xee
	copy(gpt[512:], "EFI PART")
	gpt[512+72], gpt[512+80], gpt[512+84] = 2, 128, 128
	copy(gpt[1024:], []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b})
	for id, b := range contents {
		if err := os.WriteFile(filepath.Join(dir, id+".raw"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spec, ova := filepath.Join(dir, "shop.yaml"), filepath.Join(dir, "shop.ova")
	if err := os.WriteFile(spec, []byte(shopSpec), 0o600); err != nil {
		t.Fatal(err)
	}
	ok(t, "build", spec, "-o", ova, "--for", "dmtf")
	whole, err := os.ReadFile(ova)
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int32
	v.Transfer = func(name string, _ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			return false
		}
		sent.Add(1)
		err := filepath.WalkDir(temp, func(path string, e os.DirEntry, err error) error {
			if info, infoErr := os.Stat(path); err == nil && infoErr == nil && info.Mode().IsRegular() && info.Size() > 0 {
				t.Errorf("when %s is sent, %s has %d bytes", name, path, info.Size())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return false
	}
	deploy := func(data []byte, more ...string) (int, string) {
		var out, said bytes.Buffer
		code := newApp(io.MultiReader(bytes.NewReader(data)), &out, &said).run(t.Context(), append([]string{"deploy", "-", "--to", cluster}, more...))
		return code, said.String()
	}
	orders := map[string][]byte{"in order": whole, "reversed": reversed(t, whole)}
	if testing.Short() {
		delete(orders, "in order") // which is what the others below are
	}
	for name, data := range orders {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			code, said := deploy(data, "--name", "shop")
			if code != 0 || sent.Load() != int32(len(contents)) {
				t.Fatalf("exit code %d, %d files were sent\n%s", code, sent.Load(), said)
			}
			if strings.Contains(said, "copied to") {
				t.Errorf("something was put aside:\n%s", said)
			}
			host, err := newApp(strings.NewReader(""), io.Discard, io.Discard).openHost(t.Context(), cluster)
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			for machine, want := range map[string]hypervisor.FirmwareKind{"shop-web": hypervisor.BIOS, "shop-db": hypervisor.UEFI} {
				k, err := host.Lookup(t.Context(), machine)
				if err != nil {
					t.Fatal(err)
				}
				if k.Machine.Firmware.Kind != want || len(k.Machine.Drives) != 3 {
					t.Errorf("%s has %s, and %d drives\n%s", machine, k.Machine.Firmware.Kind, len(k.Machine.Drives), said)
				}
			}
			for machine, ids := range map[string]string{"shop-web": "abc", "shop-db": "def"} {
				back := filepath.Join(t.TempDir(), "back.ova")
				ok(t, "export", strings.Replace(cluster, "?", "/"+machine+"?", 1), "-o", back)
				for i, id := range ids {
					out := filepath.Join(t.TempDir(), "raw")
					ok(t, "disk", "convert", "-q", fmt.Sprintf("%s#%s", back, diskIDs(t, back)[i]), out, "--to", "raw")
					if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, contents[string(id)]) {
						t.Errorf("%s: disk %c holds something else: %v", machine, id, err)
					}
				}
			}
			if code, said := deploy(data, "--name", "shop"); code != 0 || !strings.Contains(said, "deployed already") {
				t.Errorf("again: exit code %d\n%s", code, said)
			}
			ok(t, "rm", "shop", "--on", cluster)
		})
	}
	bad := bytes.Clone(whole)
	last := bytes.LastIndex(bad, []byte("ustar")) &^ 511 // its header
	bad[last+512+2048] ^= 1
	for name, c := range map[string]struct {
		data []byte
		code int
		more []string
	}{
		"altered":                    {bad, 4, nil},
		"altered, the manifest last": {reversed(t, bad), 4, nil},
		"cut short":                  {whole[:len(whole)*2/3], 3, nil},
		"no such pool":               {whole, 5, []string{"--pool", "tape"}},
	} {
		if code, said := deploy(c.data, append(c.more, "--name", "bad")...); code != c.code {
			t.Errorf("%s: exit code %d\n%s", name, code, said)
		}
		if text := ok(t, "ps", "--on", cluster); strings.Contains(text, "bad") {
			t.Errorf("%s left %s", name, text)
		}
	}
}

// diskIDs are the IDs of a package's disks, in their order.
func diskIDs(t *testing.T, locator string) (ids []string) {
	t.Helper()
	pkg, err := newApp(strings.NewReader(""), io.Discard, io.Discard).openPackage(t.Context(), locator)
	if err != nil {
		t.Fatal(err)
	}
	defer pkg.Close()
	for _, d := range pkg.Document().Envelope().Disks {
		ids = append(ids, d.ID)
	}
	return ids
}
