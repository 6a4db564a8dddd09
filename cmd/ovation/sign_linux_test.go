package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
)

// TestSignKilled kills 'sign' in a folder, at any moment: signed again, the package
// is what it is when nobody was killed.
func TestSignKilled(t *testing.T) {
	openssl := testenv.NeedTool(t, "openssl")
	ovation, err := exec.LookPath("ovation")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(name string, args ...string) string {
		t.Helper()
		out, err := run(name, args...)
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return out
	}
	must(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=Vendor", "-days", "30")
	if err := os.WriteFile(filepath.Join(dir, "a.ovf"), []byte(signKilledDescriptor), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "disk.raw"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	must(ovation, "pack", "a.ovf", "-o", "package")
	sign := []string{"sign", "-q", "package", "--key", "key.pem", "--cert", "cert.pem"}
	began := time.Now()
	must(ovation, append(sign, "--chunks")...)
	takes := time.Since(began)
	for i := range 20 {
		// Each time something of the package becomes another: it has digests
		// of chunks, or another manifest.
		args := append(sign, "--manifest", []string{"sha256", "sha384"}[i%2])
		if i%4 < 2 {
			args = append(args, "--chunks")
		}
		cmd := exec.CommandContext(t.Context(), ovation, args...)
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(takes))))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// Nobody takes what is half done for whole: the only reason against it
		// is one that is said.
		if out, err := run(ovation, "verify", "--json", "package", "--trust", "cert.pem"); err != nil && !strings.Contains(out, "interrupted") {
			t.Errorf("after the kill: %v\n%s", err, out)
		}
		must(ovation, sign...)
		if out := must(ovation, "verify", "package", "--trust", "cert.pem"); !strings.Contains(out, "trusted: signed by") {
			t.Errorf("signed again: %s", out)
		}
		names, err := filepath.Glob(filepath.Join(dir, "package", ".*"))
		if err != nil || len(names) > 0 {
			t.Errorf("left behind: %q, %v", names, err)
		}
	}
}

const signKilledDescriptor = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f" ovf:href="disk.raw"/></References>
  <DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576"/></DiskSection>
  <VirtualSystem ovf:id="a"><Info/></VirtualSystem>
</Envelope>
`
