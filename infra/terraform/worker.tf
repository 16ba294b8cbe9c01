# The Prefect worker of the pool reelflow-ecs, as a service. It starts one Fargate task for each flow run.

resource "aws_cloudwatch_log_group" "flows" {
  name              = var.flow_log_group
  retention_in_days = var.log_days
}

resource "aws_cloudwatch_log_group" "worker" {
  name              = "/ecs/${var.name}-worker"
  retention_in_days = var.log_days
}

resource "aws_ecs_cluster" "reelflow" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "Reelflow's Prefect worker: calls out, takes no calls."
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "worker" {
  security_group_id = aws_security_group.worker.id
  description       = "Prefect's API, ECS, S3"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_ecs_task_definition" "worker" {
  family                   = "${var.name}-worker"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.worker.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  container_definitions = jsonencode([{
    name      = "prefect-worker"
    image     = var.image
    essential = true
    command = [
      "prefect", "worker", "start", "--pool", "reelflow-ecs", "--type", "ecs",
      "--no-create-pool-if-not-found", "--install-policy", "never", "--with-healthcheck",
    ]
    environment = [
      { name = "PREFECT_API_URL", value = var.prefect_api_url },
      { name = "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME", value = aws_sqs_queue.events.name },
      { name = "AWS_DEFAULT_REGION", value = var.region },
    ]
    secrets = var.prefect_secret_arn == null ? [] : [
      { name = var.prefect_secret_variable, valueFrom = var.prefect_secret_arn },
    ]
    healthCheck = {
      command     = ["CMD", "python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
      interval    = 30
      timeout     = 10
      retries     = 4
      startPeriod = 120
    }
    stopTimeout     = 60
    user            = "10001:10001"
    linuxParameters = { capabilities = { drop = ["ALL"] } }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.worker.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = "worker"
      }
    }
  }])
}

resource "aws_ecs_service" "worker" {
  name            = "${var.name}-worker"
  cluster         = aws_ecs_cluster.reelflow.id
  task_definition = aws_ecs_task_definition.worker.arn
  desired_count   = 1
  launch_type     = "FARGATE"

  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.worker.id]
    assign_public_ip = false
  }

  depends_on = [aws_iam_role_policy.run_tasks, aws_iam_role_policy.start_containers]
}

# ECS says through this queue that a task ended, so that the worker marks its flow run Crashed at once.
resource "aws_sqs_queue" "events" {
  name                       = "${var.name}-ecs-events"
  message_retention_seconds  = 604800
  visibility_timeout_seconds = 300
  sqs_managed_sse_enabled    = true
}

resource "aws_cloudwatch_event_rule" "task_state" {
  name        = "${var.name}-ecs-task-state"
  description = "State changes of tasks in Reelflow's ECS cluster."
  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail        = { clusterArn = [aws_ecs_cluster.reelflow.arn] }
  })
}

resource "aws_cloudwatch_event_target" "task_state" {
  rule = aws_cloudwatch_event_rule.task_state.name
  arn  = aws_sqs_queue.events.arn
}

resource "aws_sqs_queue_policy" "events" {
  queue_url = aws_sqs_queue.events.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.events.arn
      Principal = { Service = "events.amazonaws.com" }
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.task_state.arn } }
    }]
  })
}
