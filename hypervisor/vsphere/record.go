package vsphere

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// A machine's record is in its extraConfig, where guests do not see it: as JSON,
// compressed and in base64, since these settings are lines of a file. One that
// is long is in several.
const (
	// ownSettings begins the keys of all that this program keeps.
	ownSettings = "ovation."
	// deploymentKey is the deployment's ID, for people and for looking.
	deploymentKey = ownSettings + "deployment"
	// recordKey is the beginning of the record's keys: ovation.record.0 and so
	// on; recordKey itself says how many there are.
	recordKey = ownSettings + "record"
)

// Bounds of a record.
const (
	partSize  = 32 << 10
	maxParts  = 128
	maxRecord = 16 << 20
)

// recordConfig writes a record. Parts of a longer one that was there before are
// emptied, where old says how many those were.
func recordConfig(r hypervisor.Record, old int) ([]types.BaseOptionValue, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	whole := base64.StdEncoding.EncodeToString(b.Bytes())
	var parts []string
	for len(whole) > partSize {
		parts = append(parts, whole[:partSize])
		whole = whole[partSize:]
	}
	parts = append(parts, whole)
	if len(parts) > maxParts {
		return nil, fmt.Errorf("a record of %d bytes is more than is kept with a machine", b.Len())
	}
	out := []types.BaseOptionValue{
		&types.OptionValue{Key: deploymentKey, Value: r.Deployment},
		&types.OptionValue{Key: recordKey, Value: strconv.Itoa(len(parts))},
	}
	for i, p := range parts {
		out = append(out, &types.OptionValue{Key: partKey(i), Value: p})
	}
	for i := len(parts); i < min(old, maxParts); i++ {
		out = append(out, &types.OptionValue{Key: partKey(i), Value: ""}) // which removes it
	}
	return out, nil
}

func partKey(i int) string { return fmt.Sprintf("%s.%d", recordKey, i) }

// settings are an extraConfig by its keys.
func settings(list []types.BaseOptionValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, o := range list {
		v := o.GetOptionValue()
		if s, ok := v.Value.(string); ok {
			m[v.Key] = s
		} else if v.Value != nil {
			m[v.Key] = fmt.Sprint(v.Value)
		}
	}
	return m
}

func parts(extra map[string]string) int {
	n, err := strconv.Atoi(extra[recordKey])
	if err != nil || n < 0 || n > maxParts {
		return 0
	}
	return n
}

// recordOf reads a machine's record; nil is that it has none.
func recordOf(extra map[string]string) (*hypervisor.Record, error) {
	if extra[recordKey] == "" {
		return nil, nil
	}
	n := parts(extra)
	var b strings.Builder
	for i := range n {
		b.WriteString(extra[partKey(i)])
	}
	packed, err := base64.StdEncoding.DecodeString(b.String())
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxRecord {
		return nil, fmt.Errorf("it has more than %d bytes", maxRecord)
	}
	var r hypervisor.Record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// SetRecord puts another record in place of a machine's.
func (h *Host) SetRecord(ctx context.Context, name string, r hypervisor.Record) error {
	vm, err := h.find(ctx, name)
	if err != nil {
		return err
	}
	extra, err := recordConfig(r, parts(settings(vm.Config.ExtraConfig)))
	if err == nil {
		err = h.reconfigure(ctx, vm.Self, types.VirtualMachineConfigSpec{ExtraConfig: extra})
	}
	if err != nil {
		return fmt.Errorf("machine %s: its record: %w", name, err)
	}
	return nil
}

// SetGuestInfo sets a variable that the guest reads by VMware's tools.
func (h *Host) SetGuestInfo(ctx context.Context, name, key, value string) error {
	vm, err := h.find(ctx, name)
	if err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}}}
	if err := h.reconfigure(ctx, vm.Self, spec); err != nil {
		return fmt.Errorf("machine %s: %s: %w", name, key, err)
	}
	return nil
}

// SetFirmware gives a machine other firmware.
func (h *Host) SetFirmware(ctx context.Context, name string, f hypervisor.Firmware) error {
	vm, err := h.find(ctx, name)
	if err != nil {
		return err
	}
	var spec types.VirtualMachineConfigSpec
	useFirmware(&spec, f)
	return h.reconfigure(ctx, vm.Self, spec)
}

func (h *Host) reconfigure(ctx context.Context, vm ref, spec types.VirtualMachineConfigSpec) error {
	task, err := object.NewVirtualMachine(h.client, vm).Reconfigure(ctx, spec)
	return h.done(ctx, task, err)
}

// done waits for a task.
func (h *Host) done(ctx context.Context, task *object.Task, err error) error {
	if err == nil {
		err = task.Wait(ctx)
	}
	return known(err)
}
