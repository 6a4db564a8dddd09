package remote

import (
	"context"
	"io"

	"github.com/ovation-project/ovation/internal/throttle"
)

type limitedBody struct {
	io.ReadCloser
	bucket *throttle.Bucket
	ctx    context.Context
}

// Read waits until what it read may have come.
func (l *limitedBody) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p[:min(len(p), l.bucket.Piece())])
	if stopped := l.bucket.Wait(l.ctx, n); stopped != nil {
		return n, stopped
	}
	return n, err
}
