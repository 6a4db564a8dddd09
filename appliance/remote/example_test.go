package remote_test

import (
	"fmt"

	"github.com/ovation-project/ovation/appliance/remote"
)

func ExampleNew() {
	credentials, err := remote.ParseCredentials("machine example.org token abc123")
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := remote.New(remote.Options{Credentials: credentials, Limit: 10 << 20})
	fmt.Println(client != nil, err, credentials)
	// Output: true <nil> 1 credentials
}
