package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/ovation-project/ovation/hypervisor"
)

const (
	swtpm        = "swtpm"
	installSWTPM = "install the package swtpm"
	// tpmFolder is where a machine's TPM keeps its state.
	tpmFolder = "tpm"
)

// tpmModels are the devices for the versions of TPM.
var tpmModels = map[string]string{"1.2": "tpm-tis", "2.0": "tpm-crb"}

// tpms are the versions that the software TPM of this host gives a QEMU with
// these devices.
func tpms(ctx context.Context, devices map[string]bool) []string {
	path, err := exec.LookPath(swtpm)
	if err != nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, path, "socket", "--print-capabilities").Output()
	var can struct {
		Features []string `json:"features"`
	}
	if err != nil || json.Unmarshal(out, &can) != nil {
		return nil
	}
	var found []string
	for _, version := range []string{"1.2", "2.0"} {
		// Before 0.6 it did not say, and could both.
		said := slices.ContainsFunc(can.Features, func(f string) bool { return f == "tpm-1.2" || f == "tpm-2.0" })
		if devices[tpmModels[version]] && (!said || slices.Contains(can.Features, "tpm-"+version)) {
			found = append(found, version)
		}
	}
	return found
}

// tpm adds the machine's TPM.
func (b *builder) tpm() {
	t := b.m.TPM
	if t == nil {
		return
	}
	model, ok := tpmModels[t.Version]
	switch {
	case !ok:
		b.refuse("TPM "+t.Version, "QEMU has 1.2 and 2.0")
	case b.h.TPMFD == 0:
		b.refuse("TPM "+t.Version, "there is no software TPM; "+installSWTPM)
	default:
		b.add("-chardev", fmt.Sprintf("socket,id=tpmlink,fd=%d", b.h.TPMFD), "-tpmdev", "emulator,id=tpm0,chardev=tpmlink")
		b.device(model, prop{"tpmdev", "tpm0"})
	}
}

// softTPM is a process that is the TPM of one machine.
type softTPM struct {
	cmd  *exec.Cmd
	said *tail
	done chan struct{}
}

// startTPM starts a TPM that keeps its state below dir, and gives the end of its
// connection that QEMU inherits. It ends with that connection.
func startTPM(dir string, t *hypervisor.TPM) (*softTPM, *os.File, error) {
	path, err := exec.LookPath(swtpm)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: a software TPM: %w; %s", hypervisor.ErrUnavailable, err, installSWTPM)
	}
	state := filepath.Join(dir, tpmFolder)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, nil, err
	}
	mine, theirs, err := filePair("TPM")
	if err != nil {
		return nil, nil, err
	}
	defer mine.Close()
	args := []string{"socket", "--tpmstate", "dir=" + state, "--ctrl", "type=unixio,clientfd=3", "--terminate"}
	if t.Version == "2.0" {
		args = append(args, "--tpm2")
	}
	s := &softTPM{cmd: exec.Command(path, args...), said: &tail{max: 4 << 10}, done: make(chan struct{})}
	s.cmd.ExtraFiles = []*os.File{mine}
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	s.cmd.SysProcAttr = childAttr()
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with the thread that started it
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // what it says of its end is in said
			close(s.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, errors.Join(fmt.Errorf("starting the software TPM: %w", err), theirs.Close())
	}
	return s, theirs, nil
}

// end ends a TPM whose machine is gone; nil is none.
func (s *softTPM) end() {
	if s != nil {
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// blame adds what the TPM said to an error of starting the machine.
func (s *softTPM) blame(err error) error {
	if s == nil || err == nil {
		return err
	}
	if said := s.said.lastLines(); said != "" {
		return fmt.Errorf("%w; the software TPM says: %s", err, said)
	}
	return err
}
