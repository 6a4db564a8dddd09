package main

import (
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/encryption"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/hypervisor"
)

// The exit codes, as the help says.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitInvalid   = 3
	exitUntrusted = 4
	exitUnfit     = 5
)

// usageError is a command line that can't be carried out as written.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// reportedError carries an exit code for what the output has said already.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }

// causes are the libraries' errors and the exit codes that they mean; the
// first that fits counts. An error that is in none of the rows is a failure.
var causes = []struct {
	is   error
	code int
}{
	{appliance.ErrAltered, exitUntrusted},
	{appliance.ErrIncomplete, exitUntrusted},
	{appliance.ErrChanged, exitUntrusted},
	{errNoManifest, exitUntrusted},
	{verdict.ErrUntrusted, exitUntrusted},
	{disk.ErrCorrupt, exitUntrusted},
	{encryption.ErrDecrypt, exitUntrusted},
	{appliance.ErrInvalid, exitInvalid},
	{encryption.ErrInvalid, exitInvalid},
	{errLint, exitInvalid},
	{spec.ErrInvalid, exitInvalid},
	{hypervisor.ErrUnfit, exitUnfit},
}

func exitCode(err error) int {
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	for _, c := range causes {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return exitFailed
}
