//go:build !unix

package prompt

import "errors"

// hide can't here.
func hide(int) (show func(), err error) {
	return nil, errors.New("passwords can't be asked for on this system: give them in a file")
}
