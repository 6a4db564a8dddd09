package hypervisor

import "context"

// Viewer is implemented by guests whose screen other programs show.
type Viewer interface {
	// Screens are addresses at which the screen is shown, the best first. They
	// may let in whoever has them, once and for a short time.
	Screens(ctx context.Context) ([]Screen, error)
}

// Screen is one address of a guest's screen.
type Screen struct {
	// Kind says what shows it: vmrc (VMware Remote Console), webmks (a browser
	// with VMware's WebMKS), vnc, spice.
	Kind string `json:"kind"`
	URL  string `json:"url"`
}
