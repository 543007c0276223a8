module metrics-pipeline.dev/e2e/certificates

go 1.26
