package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
)

// TestKVMTestProgram runs the program that tries KVM under emulation, and sees
// that it gets to its end: in protected mode, at the instruction after HLT.
func TestKVMTestProgram(t *testing.T) {
	binary := testenv.NeedTool(t, "qemu-system-x86_64")
	rom := make([]byte, 64<<10)
	testProgram(rom[len(rom)-4096:])
	file := filepath.Join(t.TempDir(), "rom")
	if err := os.WriteFile(file, rom, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := launch(t.Context(), binary, []string{"-machine", "pc", "-accel", "tcg", "-nodefaults", "-display", "none", "-bios", file,
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var registers string
		if err := p.monitor.do(t.Context(), "human-monitor-command", map[string]any{"command-line": "info registers"}, &registers); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(registers, "EIP=fffff024") && strings.Contains(registers, "HLT=1") && strings.Contains(registers, "CR0=60000011") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("does not get to its end:\n%s", registers)
		}
	}
}
