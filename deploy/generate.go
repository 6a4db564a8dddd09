package deploy

//go:generate env UPDATE_DOCS=1 go test -count=1 -run ^TestDocs$ .
