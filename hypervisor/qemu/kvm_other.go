//go:build !linux

package qemu

import "errors"

func kvmWorks() error { return errors.New("KVM is a part of Linux") }
