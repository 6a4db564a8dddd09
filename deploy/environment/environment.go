// Package environment brings the OVF environment document to guests: as a file
// on a CD-ROM (transport "iso"; DSP0243, 11.2), whichever hypervisor runs them.
package environment

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/iso9660"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/ovfenv"
)

// The transports that descriptors name.
const (
	ISO       = "iso"
	GuestInfo = "com.vmware.guestInfo"
)

// GuestInfoKey is the variable that VMware's guests read.
const GuestInfoKey = "guestinfo.ovfEnv"

// label is the CD-ROM's, as VMware's products have it: there are guests that
// look for it.
const label = "OVF ENV"

// Format is what a drive's Medium says of an image.
const Format = "raw"

// Wanted says whether a system's guest wants to be told.
func Wanted(s *ovf.System) bool { return s.Hardware != nil && len(s.Hardware.Transports) > 0 }

// AddDrive gives a machine the CD-ROM drive for its document, where its guest
// wants one, and says which drive it is; "" is none: the guest wants no
// document, or the host tells it by the guest's own transport. The drive's
// Medium is the caller's to set. It fails as deploy.Machines does where there
// is no place.
func AddDrive(p *deploy.Planned, target *hypervisor.Capabilities) (drive string, err error) {
	if !Wanted(p.System) {
		return "", nil
	}
	transports := p.System.Hardware.Transports
	if target.Imports {
		// The host makes the machine's drives, and no others.
		if !target.GivesEnvironment && !(target.GuestInfo && slices.Contains(transports, GuestInfo)) {
			p.Notes = append(p.Notes, deploy.Note{Machine: p.Machine.ID, Subject: "OVF environment",
				Text: fmt.Sprintf("the guest asks for it by %s, which %s does not do here: it is not told of its properties", strings.Join(transports, ", "), target.Driver)})
		}
		return "", nil
	}
	if target.GuestInfo && slices.Contains(transports, GuestInfo) && !slices.Contains(transports, ISO) {
		return "", nil
	}
	const subject = "OVF environment"
	drive, err = p.AddCDROM(target, "ovf-environment", subject)
	if err != nil {
		return "", err
	}
	if !slices.Contains(transports, ISO) {
		p.Notes = append(p.Notes, deploy.Note{Machine: p.Machine.ID, Subject: subject,
			Text: fmt.Sprintf("the guest asks for it by %s, which %s does not have; a CD-ROM carries it instead", strings.Join(transports, ", "), target.Driver)})
	}
	return drive, nil
}

// Document makes the document of one system, for a host and in a locale ("" is
// en).
func Document(r *ovf.Resolved, s *ovf.System, target *hypervisor.Capabilities, locale string) *ovfenv.Environment {
	return ovfenv.Build(r, s, Platform(target, locale))
}

// Platform says to a guest what runs it.
func Platform(target *hypervisor.Capabilities, locale string) *ovfenv.Platform {
	p := &ovfenv.Platform{Kind: target.Driver, Version: target.Version, Vendor: target.Driver, Locale: cmp.Or(locale, "en")}
	if target.Driver == "qemu" {
		p.Kind, p.Vendor = "QEMU", "QEMU"
	}
	return p
}

// Image makes the CD-ROM's image.
func Image(e *ovfenv.Environment, made time.Time) ([]byte, error) {
	var image bytes.Buffer
	if err := iso9660.Write(&image, label, made, iso9660.File{Name: ovfenv.FileName, Data: e.Marshal()}); err != nil {
		return nil, fmt.Errorf("the environment document of %s: %w", e.ID, err)
	}
	return image.Bytes(), nil
}
