package redact

import "testing"

func TestPlace(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"https://b.s3.example/x.ova?X-Amz-Algorithm=A&X-Amz-Expires=60&X-Amz-Signature=1", "https://b.s3.example/x.ova?X-Amz-Signature=2"},
		{"https://b.s3.example/x.ova?AWSAccessKeyId=a&Signature=1&Expires=5", "https://b.s3.example/x.ova"},
		{"https://storage.example/b/x.ova?X-Goog-Signature=1", "https://storage.example/b/x.ova?X-Goog-Signature=2&X-Goog-Date=3"},
		{"https://a.blob.example/c/x.ova?sv=2022&sr=b&sp=r&se=2026&sig=1", "https://a.blob.example/c/x.ova?sv=2023&sig=2"},
		{"https://me:old@h/x", "https://me:new@h/x"},
		{"https://h/get?file=a&token=1", "https://h/get?token=2&file=a"},
	} {
		if Place(c.a) != Place(c.b) {
			t.Errorf("%s and %s are two places: %s, %s", c.a, c.b, Place(c.a), Place(c.b))
		}
	}
	for _, c := range []struct{ a, b string }{
		{"https://h/get?file=a", "https://h/get?file=b"},
		{"https://h/get?sr=1", "https://h/get?sr=2"}, // without a signature these are anybody's
		{"https://h/a?X-Amz-Signature=1", "https://h/b?X-Amz-Signature=1"},
		{"https://me@h/x", "https://you@h/x"},
		{"https://h/x?versionId=1&Signature=1", "https://h/x?versionId=2&Signature=1"},
	} {
		if Place(c.a) == Place(c.b) {
			t.Errorf("%s and %s are one place: %s", c.a, c.b, Place(c.a))
		}
	}
}
