output "store" {
  description = "REELFLOW_STORE."
  value       = "s3://${aws_s3_bucket.store.bucket}/${var.store_prefix}"
}

output "bucket_owner" {
  description = "REELFLOW_S3__EXPECTED_BUCKET_OWNER: writes to a bucket of this name in another account are refused."
  value       = data.aws_caller_identity.current.account_id
}

output "task_role_arn" {
  description = "REELFLOW_ECS_TASK_ROLE for `python -m deployments apply`; on EKS, the role to annotate the service account with, after its trust policy names the cluster's OIDC provider."
  value       = aws_iam_role.task.arn
}

output "execution_role_arn" {
  description = "REELFLOW_ECS_EXECUTION_ROLE for `python -m deployments apply`."
  value       = aws_iam_role.execution.arn
}

output "cluster_arn" {
  description = "REELFLOW_ECS_CLUSTER for `python -m deployments apply`."
  value       = aws_ecs_cluster.reelflow.arn
}

output "vpc_id" {
  description = "REELFLOW_ECS_VPC for `python -m deployments apply`."
  value       = var.vpc_id
}
