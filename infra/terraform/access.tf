# Three roles: what flow runs and Dask workers may do (`task`), what ECS needs to start a container (`execution`), and what the
# Prefect worker needs to start flow runs (`worker`). The policies are JSON files, so that they serve without Terraform too.

locals {
  trust_ecs = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
      }
    }]
  })

  source_bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${var.source_bucket}"
  repository        = regex("^[^/]+/([^:@]+)", var.image)[0]
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  description        = "Reelflow flow runs and Dask workers: read the sources, read and write the store."
  assume_role_policy = local.trust_ecs
}

resource "aws_iam_role_policy" "read_source" {
  name = "read-source"
  role = aws_iam_role.task.id
  policy = templatefile("${path.module}/policies/read-source.json", {
    source_bucket_arn = local.source_bucket_arn
    source_prefix     = var.source_prefix
  })
}

resource "aws_iam_role_policy" "read_write_store" {
  name = "read-write-store"
  role = aws_iam_role.task.id
  policy = templatefile("${path.module}/policies/read-write-store.json", {
    store_bucket_arn = aws_s3_bucket.store.arn
    store_prefix     = var.store_prefix
  })
}

resource "aws_iam_role_policy" "use_key" {
  count = var.kms_key_arn == null ? 0 : 1
  name  = "use-key"
  role  = aws_iam_role.task.id
  policy = templatefile("${path.module}/policies/use-key.json", {
    kms_key_arn = var.kms_key_arn
    region      = var.region
  })
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  description        = "Starts Reelflow's containers: pulls the image, writes logs, reads the Prefect secret."
  assume_role_policy = local.trust_ecs
}

resource "aws_iam_role_policy" "start_containers" {
  name = "start-containers"
  role = aws_iam_role.execution.id
  policy = templatefile("${path.module}/policies/start-containers.json", {
    partition            = data.aws_partition.current.partition
    region               = var.region
    account              = data.aws_caller_identity.current.account_id
    repository           = local.repository
    flow_log_group_arn   = aws_cloudwatch_log_group.flows.arn
    worker_log_group_arn = aws_cloudwatch_log_group.worker.arn
  })
}

resource "aws_iam_role_policy" "read_secret" {
  count  = var.prefect_secret_arn == null ? 0 : 1
  name   = "read-secret"
  role   = aws_iam_role.execution.id
  policy = templatefile("${path.module}/policies/read-secret.json", { secret_arn = var.prefect_secret_arn })
}

resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  description        = "The Prefect ECS worker: runs tasks of one family in one cluster."
  assume_role_policy = local.trust_ecs
}

resource "aws_iam_role_policy" "run_tasks" {
  name = "run-tasks"
  role = aws_iam_role.worker.id
  policy = templatefile("${path.module}/policies/run-tasks.json", {
    partition          = data.aws_partition.current.partition
    region             = var.region
    account            = data.aws_caller_identity.current.account_id
    family             = "reelflow"
    cluster_arn        = aws_ecs_cluster.reelflow.arn
    cluster_name       = aws_ecs_cluster.reelflow.name
    task_role_arn      = aws_iam_role.task.arn
    execution_role_arn = aws_iam_role.execution.arn
    events_queue_arn   = aws_sqs_queue.events.arn
    flow_log_group_arn = aws_cloudwatch_log_group.flows.arn
  })
}
