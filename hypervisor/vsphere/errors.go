package vsphere

import (
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/redact"
)

// faultOf finds a fault of a type in an error, wherever govmomi put it.
func faultOf[T types.BaseMethodFault](err error, target *T) bool {
	switch e := err.(type) {
	case nil:
		return false
	case interface{ Fault() types.BaseMethodFault }:
		for f := e.Fault(); f != nil; {
			if found, ok := f.(T); ok {
				*target = found
				return true
			}
			cause := f.GetMethodFault()
			if cause == nil || cause.FaultCause == nil {
				return false
			}
			f = cause.FaultCause.Fault
		}
	case interface{ Unwrap() error }:
		return faultOf(e.Unwrap(), target)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if faultOf(one, target) {
				return true
			}
		}
	}
	return false
}

// known makes callers find the errors that they act on.
func known(err error) error {
	if err == nil || errors.Is(err, hypervisor.ErrNotFound) || errors.Is(err, hypervisor.ErrExists) {
		return err
	}
	var (
		gone     *types.ManagedObjectNotFound
		missing  *types.FileNotFound
		name     *types.DuplicateName
		file     *types.FileAlreadyExists
		denied   *types.NoPermission
		session  *types.NotAuthenticated
		reserved *types.RestrictedVersion
	)
	switch {
	case faultOf(err, &gone), faultOf(err, &missing):
		return fmt.Errorf("%w: %w", hypervisor.ErrNotFound, err)
	case faultOf(err, &name), faultOf(err, &file):
		return fmt.Errorf("%w: %w", hypervisor.ErrExists, err)
	case faultOf(err, &denied):
		return fmt.Errorf("the user lacks the privilege %s there: %w", denied.PrivilegeId, err)
	case faultOf(err, &session):
		return fmt.Errorf("%w: the session was ended: %w", hypervisor.ErrUnavailable, err)
	case faultOf(err, &reserved):
		return fmt.Errorf("the host's licence allows no changes by programs (a free ESXi): %w", err)
	case lost(err):
		return fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, redact.Cause(err))
	}
	return redact.Cause(err)
}
